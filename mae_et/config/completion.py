"""Shell completion of commands, options, choices and recipes, by shtab.

shtab writes a script once, for bash, zsh or tcsh, so that no Python is started at each press of the
key: `mae-et --print_completion bash > ~/.local/share/bash-completion/completions/mae-et`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import check, is_installed
from .line_parser import LineParser

SHELLS = ("bash", "zsh", "tcsh")

RECIPES = """
_mae_et_recipes_{name}() {{ compgen -W '{recipes}' -- "$1"; compgen -f -- "$1"; }}
"""
"""A function of bash for what may follow --config: a recipe, or a file."""


def completion_script(
    parser: LineParser,
    commands: Mapping[str, LineParser],
    arguments: Sequence[str],
    recipes: Sequence[str],
) -> str:
    """Return a script to be sourced by a shell.

    Args:
        parser: The parser of what is not in commands, with the name of the program.
        commands: The parsers of the commands.
        arguments: What follows --print_completion.
        recipes: The names that may follow --config.

    Raises:
        ValueError: The shell is unknown, or shtab is not installed.
    """
    shell = arguments[0] if arguments else None
    check(shell in SHELLS, "--print_completion", shell, f"one of {', '.join(SHELLS)}")
    if not is_installed("shtab"):
        raise ValueError(
            "--print_completion needs shtab: pip install -e '.[completion]' in the clone"
        )
    function = parser.prog.replace("-", "_")
    adder: Any = parser.add_subcommands(required=False)
    for name, command in commands.items():
        adder.add_subcommand(name, command)
    for made in (parser, *commands.values()):
        for action in made._actions:
            if action.dest == "config":
                files = {"zsh": "_files", "tcsh": "f"}
                action.complete = {  # type: ignore[attr-defined]
                    "bash": f"_mae_et_recipes_{function}",
                    **files,
                }
    preamble = RECIPES.format(name=function, recipes=" ".join(recipes)) if shell == "bash" else ""
    script: str = parser.get_completion_script(f"shtab-{shell}", preambles=[preamble])
    return script
