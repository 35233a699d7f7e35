"""``python -m mae_et recipes``: list the recipes."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.line_parser import LineParser
from ..config.parser import recipe_titles


def main(arguments: Sequence[str]) -> None:
    """Print the name of each recipe and what it is, one per line.

    Raises:
        ValueError: An option is given; the command has none.
    """
    make_parser().parse_args(list(arguments))
    print(recipe_titles("mae_et"))


def make_parser() -> LineParser:
    """Make the parser of the command, which has no options."""
    return LineParser(prog="mae-et recipes", description=__doc__)
