"""``python -m mae_et recipes``: list the recipes."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.parser import LineParser, recipe_names


def main(arguments: Sequence[str]) -> None:
    """Print the name of each recipe, one a line.

    Raises:
        ValueError: There is an option, which the command has none of.
    """
    LineParser(prog="mae_et recipes", description=__doc__).parse_args(list(arguments))
    print("\n".join(recipe_names("mae_et")))
