"""The command line: ``accelerate launch -m finetune``, or ``python -m finetune``."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from mae_et import __version__
from mae_et.config.line_parser import LineParser
from mae_et.config.parser import add_resume, config_parser, recipe_names, recipe_titles, resume_of
from mae_et.config.request import Request, add_automatic, default_folder
from mae_et.errors import check, end_process, forget_said, print_once, run_command
from mae_et.first_line import first_line
from mae_et.runs import Run
from mae_et.workers import worker_context

from .plan import make_parser as plan_parser
from .plan import plan
from .predict_options import predict_options, predict_parser

if TYPE_CHECKING:
    from mae_et.config import Resume

    from .config import FinetuneConfig

DESCRIPTION = """Fine-tune an encoder on labelled images: by a recipe (--config), or on DATA and
--checkpoint alone, for which all settings that are not given are chosen."""

FIRST = (
    *("images_path", "checkpoint", "hours", "config", "out", "resume", "mode"),
    *("data.path", "model.encoder", "optim.epochs", "optim.batch_size"),
)
"""The options that --help shows."""

EPILOG = """examples:
  mae-et-finetune photos --checkpoint runs/photos --hours 1
  mae-et-finetune --config vit_b_16 --checkpoint none --data.path photos
  mae-et-finetune predict new_photos --checkpoint runs/photos_classifier
  mae-et-finetune recipes; mae-et-finetune plan --config etpp_swin_tiny
  mae-et-finetune --print_completion bash"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["recipes"]:
        print(recipe_titles("finetune"))
        return 0
    if arguments == ["--version"]:
        print(f"mae-et-finetune {__version__}")
        return 0
    if arguments[:1] == ["--print_completion"]:
        return run_command(lambda: print(_completion(arguments[1:])))
    with first_line(f"mae-et-finetune {__version__} begins by importing PyTorch"):
        if arguments[:1] == ["predict"]:
            return run_command(lambda: predict(arguments[1:]))
        if arguments[:1] == ["plan"]:
            return run_command(lambda: plan(arguments[1:]))
        return run_command(lambda: _finetune(arguments))


def _finetune(arguments: Sequence[str]) -> None:
    run(arguments, leaves=True)


def run(arguments: Sequence[str], *, leaves: bool = False) -> Path:
    """Run a command line in this process.

    Args:
        arguments: The command line.
        leaves: Whether the process leaves its process group at the end, as a command does.

    Returns:
        The folder of the run.

    Raises:
        ValueError: The configuration, the data or an option is bad.
        RunStoppedError: The run cannot continue.
        RunInterruptedError: A signal asked the run to stop.
    """
    from .config import FinetuneConfig

    began = time.monotonic()
    forget_said()
    request = Request(make_parser(), FinetuneConfig, arguments, "finetune")
    swept, folds = _sweep_of(request.options)
    resume, mode = resume_of(request.options), request.options.mode
    allowed = "finetune for --resume and --sweep"
    check(mode == "finetune" or not (resume or swept), "--mode", mode, allowed)
    if request.names_images:
        request.give("run.output_dir", default_folder(request.given["data.path"], "_classifier"))
    config = _known(request, resume, mode, is_swept=bool(swept))
    if request.options.data.num_workers:
        worker_context()  # starts importing while this process does

    from mae_et.training import leaving

    from .automatic import FOLDS, complete
    from .probe import probe
    from .sweep import choose_by_folds, sweep
    from .train import finetune

    with leaving() if leaves else nullcontext():
        if config is None:
            config, rates = complete(request, began=began, resume=resume)
            if rates and not swept:
                swept, folds = {"base_lr": rates}, FOLDS
        if config.mode != "finetune":
            probe(config)
        elif swept and folds is None:
            sweep(config, swept, resume=resume)
        else:
            if folds is not None:
                config = choose_by_folds(config, swept, folds, resume=resume)
            finetune(config, resume=resume, began=began)
    return Path(config.run.output_dir)


def _known(
    request: Request[FinetuneConfig], resume: Resume, mode: str, *, is_swept: bool
) -> FinetuneConfig | None:
    """Return the configuration by a recipe; None if settings are chosen for images and encoder.

    Raises:
        ValueError: Something is wrong that can be told before PyTorch is imported.
    """
    config = None if request.is_automatic else request.make({})
    run = Run(Path(config.run.output_dir if config else request.given["run.output_dir"]))
    begins = not (resume and run.exists)
    request.check_paths(begins=begins)
    if config is None:
        if resume is not True:  # a run of which only the folds are there goes on too
            run.check_start(resume)
        if begins:
            checkpoint = request.given.get("checkpoint")
            recipe = _recipe_of(request.given.get("model.encoder", "resnet50"))
            allowed = f"an encoder; a recipe such as --config {recipe} trains from scratch"
            check(checkpoint not in (None, "none"), "--checkpoint", checkpoint, allowed)
        print_once(f"mae-et {__version__}: the checkpoint and the labels are read for settings")
        return None
    allowed = "left out with a recipe; DATA and no recipe fit them"
    check(request.hours is None, "--hours", request.hours, allowed)
    config.data.check_given()
    if mode == "finetune" and not is_swept:
        run.check_start(resume)
    return config


def _recipe_of(encoder: str) -> str:
    """Return the recipe that trains the nearest network from scratch."""
    names = [name for name in recipe_names("finetune") if name.startswith("et_")]
    wanted = f"et_{encoder}".replace("et_vit_", "et_deit_")  # a plain ViT from scratch is a DeiT
    return difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)[0]


def make_parser() -> LineParser:
    """Make the parser of the options of a run."""
    from .config import SWEPT, FinetuneConfig

    parser = config_parser(FinetuneConfig, "mae-et-finetune", DESCRIPTION, FIRST, EPILOG)
    add_resume(parser)
    add_automatic(parser)
    for name in SWEPT:
        parser.add_argument(
            f"--sweep.{name}",
            type=str,
            metavar="NUMBER,NUMBER,…",
            help=f"fine-tune once with each of these values of optim.{name}",
        )
    parser.add_argument(
        "--sweep.folds",
        type=int,
        metavar="N",
        help="choose by N held-out parts of the training labels, and train once more on all",
    )
    return parser


def _sweep_of(options: Namespace) -> tuple[dict[str, Sequence[float]], int | None]:
    """Return the values of the settings that are swept, and the folds that choose among them."""
    from .config import SWEPT

    swept: dict[str, Sequence[float]] = {}
    for name in SWEPT:
        if numbers := _numbers(options[f"sweep.{name}"], f"--sweep.{name}"):
            swept[name] = numbers
    folds = options["sweep.folds"]
    allowed = "2 or more, and given with --sweep.base_lr, --sweep.layer_decay or --sweep.epochs"
    check(folds is None or (folds > 1 and bool(swept)), "--sweep.folds", folds, allowed)
    return swept, folds


def _numbers(text: str | None, option: str) -> list[float]:
    """Return the numbers in text such as "0.55,0.65"; an empty list for None."""
    try:
        return [float(part) for part in text.strip("[] ").split(",")] if text is not None else []
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas, got {text!r}") from None


def predict(arguments: Sequence[str]) -> None:
    """Classify images.

    Args:
        arguments: The command line after `predict`.

    Raises:
        ValueError: An option, the classifier or the images are unusable.
    """
    options = predict_options(arguments)

    from .predict import classify

    classify(options)


def _completion(arguments: Sequence[str]) -> str:
    """Return the script that completes command lines in a shell."""
    from mae_et.config.completion import completion_script

    commands = {
        "predict": predict_parser(),
        "plan": plan_parser(),
        "recipes": LineParser(prog="", description=None),
    }
    return completion_script(make_parser(), commands, arguments, recipe_names("finetune"))


if __name__ == "__main__":
    end_process(main())
