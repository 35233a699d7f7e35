"""The command line: ``python -m mae_et COMMAND``, or ``accelerate launch -m mae_et COMMAND``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from .cli import add_resume, config_parser, parse, resume_of, run_command
from .workers import worker_context

USAGE = """usage: python -m mae_et COMMAND [options]

commands:
  pretrain     pretrain a masked autoencoder:  --config RECIPE --section.field value …
  plan         what a run will cost:           --config RECIPE [--measure]
  search       the input sizes of its stages:  --config RECIPE --method greedy|sequential
  reconstruct  draw what a run reconstructs:   --checkpoint RUN --data.path PATH --out PNG
  report       runs on one page of HTML:       RUN … [--out report.html]
  export       to timm, transformers or onnx:  --checkpoint RUN --format FORMAT --out DIR
  stats        channel means and deviations:   --data.path PATH [--in_chans 1]
  recipes      list the recipes

python -m mae_et COMMAND --help lists the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        print(f"error: unknown command {command!r}{hint}", file=sys.stderr)
        return 2
    return run_command(lambda: COMMANDS[command](arguments))


def _pretrain(arguments: Sequence[str]) -> None:
    from .config import PretrainConfig

    parser = config_parser(PretrainConfig, "mae_et pretrain", "Pretrain a masked autoencoder.")
    add_resume(parser)
    config, options = parse(parser, PretrainConfig, arguments, "mae_et")
    resume = resume_of(options)
    if config.data.num_workers:
        worker_context()  # it imports what it needs while this process does

    from .launch import leaving
    from .pretrain import pretrain

    with leaving():
        pretrain(config, resume=resume)


def _plan(arguments: Sequence[str]) -> None:
    from .plan import main as plan

    plan(arguments)


def _search(arguments: Sequence[str]) -> None:
    from .search import main as search

    search(arguments)


def _reconstruct(arguments: Sequence[str]) -> None:
    from .reconstruct import main as reconstruct

    reconstruct(arguments)


def _report(arguments: Sequence[str]) -> None:
    from .report import main as report

    report(arguments)


def _export(arguments: Sequence[str]) -> None:
    from .export import main as export

    export(arguments)


def _stats(arguments: Sequence[str]) -> None:
    from .stats import main as stats

    stats(arguments)


def _recipes(arguments: Sequence[str]) -> None:
    from .cli import recipe_names

    print("\n".join(recipe_names("mae_et")))


COMMANDS = {
    "pretrain": _pretrain,
    "plan": _plan,
    "search": _search,
    "reconstruct": _reconstruct,
    "report": _report,
    "export": _export,
    "stats": _stats,
    "recipes": _recipes,
}


if __name__ == "__main__":
    sys.exit(main())
