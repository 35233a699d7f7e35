"""``python -m mae_et recipes``: list the recipes."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.parser import LineParser, recipe_names


def main(arguments: Sequence[str]) -> None:
    """Print the name of each recipe, one per line.

    Raises:
        ValueError: An option is given; the command has none.
    """
    LineParser(prog="mae_et recipes", description=__doc__).parse_args(list(arguments))
    print("\n".join(recipe_names("mae_et")))
