"""``python -m mae_et pretrain``: pretrain a masked autoencoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ..config import PretrainConfig
from ..config.line_parser import LineParser
from ..config.parser import add_resume, config_parser, resume_of
from ..config.request import Request, add_automatic
from ..errors import forget_said
from ..runs import Run
from ..workers import worker_context
from .automatic import complete, show

DESCRIPTION = """Pretrain a masked autoencoder: by a recipe (--config), or on images alone (DATA),
for which all settings that are not given are chosen, so that the run takes --hours."""

FIRST = (
    *("images_path", "hours", "config", "out", "resume", "checkpoint", "model.encoder"),
    *("model.image_size", "curriculum.name", "data.num_workers", "optim.epochs"),
    *("optim.batch_size", "run.mixed_precision"),
)
"""The options that --help shows."""

EPILOG = """examples:
  mae-et pretrain photos --hours 8
  mae-et pretrain --config et_vit_b_16 --data.path photos --resume auto
  mae-et pretrain --config et_vit_b_16 --print_config   (all settings of a recipe)"""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The configuration, the data or an option is bad.
        RunStoppedError: The run cannot continue.
        RunInterruptedError: A signal asked the run to stop; the message says whether a checkpoint
            was saved.
    """
    run(arguments, leaves=True)


def run(arguments: Sequence[str], *, leaves: bool = False) -> Run:
    """Run a command line in this process.

    Args:
        arguments: The command line.
        leaves: Whether the process leaves its process group at the end, as a command does.

    Returns:
        The folder of the run.

    Raises:
        ValueError: As in `main`, like the other errors.
    """
    began = time.monotonic()
    forget_said()
    request = Request(make_parser(), PretrainConfig, arguments, "mae_et")
    resume = resume_of(request.options)
    completed = complete(request, began=began, resume=resume, starts=True)
    planned = None
    if isinstance(completed, PretrainConfig):
        config = completed
    else:
        show(completed)
        config, planned = completed.config, completed.speed.step_seconds
    if config.data.num_workers:
        worker_context()  # starts importing while this process does

    from ..pretraining import pretrain
    from ..training import leaving

    with leaving() if leaves else nullcontext():
        pretrain(config, resume=resume, began=began, planned=planned)
    return Run(Path(config.run.output_dir))


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = config_parser(PretrainConfig, "mae-et pretrain", DESCRIPTION, FIRST, EPILOG)
    add_resume(parser)
    add_automatic(parser)
    return parser
