"""The command line: ``python -m mae_et COMMAND``, or ``accelerate launch -m mae_et COMMAND``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from . import __version__
from .errors import end_process, run_command
from .first_line import first_line

USAGE = """usage: mae-et COMMAND [options]

commands:
  pretrain     pretrain a masked autoencoder   DATA, or --config RECIPE
  plan         what a run will cost            DATA, or --config RECIPE
  search       the input sizes of its stages   --config RECIPE
  reconstruct  draw what a run reconstructs    --checkpoint RUN
  report       runs on one page of HTML        RUN …
  embed        the features of all images      DATA --checkpoint RUN …
  export       to timm, transformers or onnx   --checkpoint RUN --format FORMAT
  pack         big images, made small once     DATA --out DIR
  stats        channel means and deviations    DATA
  recipes      list the recipes

examples:
  mae-et pretrain photos --hours 8
  mae-et plan --config et_vit_b_16
  accelerate launch -m mae_et pretrain --config et_vit_b_16 --data.path photos

mae-et COMMAND --help            the options of a command that matter first
mae-et COMMAND --help_all        all of them, by section
mae-et --print_completion bash   completes commands and options (or zsh, tcsh)
mae-et-finetune --help           fine-tuning, probes and predictions"""

COMMANDS = (
    *("pretrain", "plan", "search", "reconstruct", "report"),
    *("embed", "export", "pack", "stats", "recipes"),
)
"""Each is the module of that name in `mae_et.commands`, imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        return run_command(lambda: print(USAGE))
    if command == "--version":
        return run_command(lambda: print(f"mae-et {__version__}"))
    if command == "--print_completion":
        return run_command(lambda: print(_completion(arguments)))
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; nearest: {near[0]}" if near else f"; one of {', '.join(COMMANDS)}"
        if command in ("finetune", "predict", "probe"):
            hint = "; fine-tuning and predictions: python -m finetune --help"
        print(f"error: unknown command {command!r}{hint}", file=sys.stderr)
        return 2
    with first_line(f"mae-et {__version__}: {command} begins by importing PyTorch"):
        return run_command(lambda: import_module(f"mae_et.commands.{command}").main(arguments))


def _completion(arguments: Sequence[str]) -> str:
    """Return the script that completes command lines in a shell."""
    from .config.completion import completion_script
    from .config.line_parser import LineParser
    from .config.parser import recipe_names

    parser = LineParser(prog="mae-et", description=None)
    modules = {name: import_module(f"mae_et.commands.{name}") for name in COMMANDS}
    commands = {name: module.make_parser() for name, module in modules.items()}
    return completion_script(parser, commands, arguments, recipe_names("mae_et"))


if __name__ == "__main__":
    end_process(main())
