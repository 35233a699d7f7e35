"""The command line: ``python -m mae_et COMMAND``, or ``accelerate launch -m mae_et COMMAND``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from .errors import end_process, run_command

USAGE = """usage: python -m mae_et COMMAND [options]

commands:
  pretrain     pretrain a masked autoencoder:  --config RECIPE --section.field value …
  plan         what a run will cost:           --config RECIPE [--measure]
  search       the input sizes of its stages:  --config RECIPE --method greedy|sequential
  reconstruct  draw what a run reconstructs:   --checkpoint RUN --data.path PATH --out PNG
  report       runs on one page of HTML:       RUN … [--out report.html]
  embed        the features of all images:     --checkpoint RUN --data.path PATH --out FILE
  export       to timm, transformers or onnx:  --checkpoint RUN --format FORMAT --out DIR
  pack         big images, made small once:    DATA --out DIR [--short_side 256]
  stats        channel means and deviations:   --data.path PATH [--in_chans 1]
  recipes      list the recipes

python -m mae_et COMMAND --help lists the options of a command.
python -m finetune --help: fine-tuning, probes and predictions."""

COMMANDS = (
    *("pretrain", "plan", "search", "reconstruct", "report"),
    *("embed", "export", "pack", "stats", "recipes"),
)
"""Each is the module of that name in `mae_et.commands`, imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; nearest: {near[0]}" if near else f"; one of {', '.join(COMMANDS)}"
        if command in ("finetune", "predict", "probe"):
            hint = "; fine-tuning and predictions: python -m finetune --help"
        print(f"error: unknown command {command!r}{hint}", file=sys.stderr)
        return 2
    return run_command(lambda: import_module(f"mae_et.commands.{command}").main(arguments))


if __name__ == "__main__":
    end_process(main())
