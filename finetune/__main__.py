"""The command line: ``accelerate launch -m finetune``, or ``python -m finetune``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mae_et.cli import config_parser, parse, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    return run_command(lambda: _finetune(sys.argv[1:] if argv is None else argv))


def _finetune(arguments: Sequence[str]) -> None:
    from .config import FinetuneConfig
    from .train import finetune

    parser = config_parser(FinetuneConfig, "finetune", "Fine-tune an encoder on labelled images.")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    config, options = parse(parser, FinetuneConfig, arguments, "finetune")
    finetune(config, resume=options.resume)


if __name__ == "__main__":
    sys.exit(main())
