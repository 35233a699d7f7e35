"""The command line: ``accelerate launch -m finetune``, or ``python -m finetune``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mae_et.config.parser import add_resume, config_parser, parse, recipe_names, resume_of
from mae_et.errors import check, end_process, run_command
from mae_et.workers import worker_context

DESCRIPTION = """Fine-tune an encoder on labelled images, or train from scratch (--checkpoint none).
Other commands: finetune predict --help (classify images), finetune recipes (list the recipes)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["predict"]:
        return run_command(lambda: _predict(arguments[1:]))
    if arguments == ["recipes"]:
        print("\n".join(recipe_names("finetune")))
        return 0
    return run_command(lambda: _finetune(arguments))


def _finetune(arguments: Sequence[str]) -> None:
    from .config import FinetuneConfig

    parser = config_parser(FinetuneConfig, "finetune", DESCRIPTION)
    add_resume(parser)
    parser.add_argument(
        "--sweep.layer_decay",
        type=str,
        metavar="0.55,0.65,…",
        help="fine-tune once with each of these values of optim.layer_decay",
    )
    config, options = parse(parser, FinetuneConfig, arguments, "finetune")
    decays = _numbers(options["sweep.layer_decay"], "--sweep.layer_decay")
    resume = resume_of(options)
    check(
        config.mode == "finetune" or not (resume or decays),
        "--mode",
        config.mode,
        "finetune for --resume and --sweep.layer_decay",
    )
    if config.data.num_workers:
        worker_context()  # starts importing while this process does

    from mae_et.training import leaving

    from .probe import probe
    from .sweep import sweep_layer_decay
    from .train import finetune

    with leaving():
        if config.mode != "finetune":
            probe(config)
        elif decays:
            sweep_layer_decay(config, decays, resume=resume)
        else:
            finetune(config, resume=resume)


def _numbers(text: str | None, option: str) -> list[float]:
    """Return the numbers in text such as "0.55,0.65"; an empty list for None."""
    try:
        return [float(part) for part in text.strip("[] ").split(",")] if text is not None else []
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas, got {text!r}") from None


def _predict(arguments: Sequence[str]) -> None:
    from .predict import main as predict

    predict(arguments)


if __name__ == "__main__":
    end_process(main())
