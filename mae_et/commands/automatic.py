"""What `pretrain` and `plan` share: the settings are chosen where only images are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..config import PretrainConfig, Resume, RunConfig, flatten, to_dict
from ..config.request import Request, default_folder
from ..errors import check, print_once
from ..runs import Run

if TYPE_CHECKING:
    from ..auto import Resolved

FITTED = ("optim.epochs", "optim.warmup_epochs")
"""What hours decide in a recipe."""


def complete(
    request: Request[PretrainConfig],
    *,
    began: float,
    resume: Resume = False,
    starts: bool = False,
) -> PretrainConfig | Resolved:
    """Choose the settings that a command line does not give.

    Those are all if it names images as its first argument and no recipe, the epochs if it gives a
    recipe and hours, and otherwise none. A run that is resumed keeps the settings that it has.

    Args:
        request: The command line.
        began: When it was given, by `time.monotonic`.
        resume: Whether the run in `run.output_dir` is resumed, if there is one.
        starts: Whether the run is started, so that its folder must be new.

    Returns:
        The configuration, or what was chosen, with it.

    Raises:
        ValueError: The configuration or the data is bad.
    """
    if request.names_images:
        request.give("run.output_dir", default_folder(request.given["data.path"]))
    given, hours = request.given, request.hours
    run = Run(Path(given.get("run.output_dir", RunConfig.output_dir)))
    is_chosen = request.is_automatic or hours is not None
    config = None if is_chosen else request.make({})  # its errors come first
    if starts:
        request.check_paths(begins=not (resume and run.exists))
        if config is not None:
            config.data.check_given()
        run.check_start(resume)  # before anything is measured for it
    if config is not None:
        return config
    if resume and run.exists:
        return _of_run(request, run)
    if request.is_automatic:
        print_once(f"mae-et {__version__}: {given['data.path']} is looked at to choose settings")
    else:
        has_epochs = request.is_on_line("optim.epochs")
        check(not has_epochs, "--hours", hours, "left out with --optim.epochs")
        recipe = flatten(to_dict(request.make({})))
        given = {name: value for name, value in recipe.items() if name not in FITTED}

    from ..auto import resolve

    return resolve(request.make, given, hours=hours, began=began)


def _of_run(request: Request[PretrainConfig], run: Run) -> PretrainConfig:
    """Return the configuration of a run that goes on: what was chosen for it stays."""
    if request.is_automatic:
        request.begin_with(run.config_file)
        return request.make({})
    optim = run.section("optim")
    return request.make({name: optim[name.partition(".")[2]] for name in FITTED})


def show(resolved: Resolved) -> None:
    """Print the settings that were chosen, in one process."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(resolved.table(), file=sys.stderr)
