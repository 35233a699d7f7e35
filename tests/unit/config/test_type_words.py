"""Types in the words of users."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from mae_et.config import SourceConfig
from mae_et.config.type_words import type_in_words, type_symbol


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (bool, "true or false"),
        (Literal["no", "bf16"] | None, "no, bf16 or null"),
        (Literal["a"], "a"),
        (tuple[float, ...], "a list, such as '[0.2, 0.5]'"),
        (tuple[float, float], "a list of 2, such as '[0.2, 0.5]'"),
        (int | tuple[int, int], "a whole number or a list of 2, such as '[224, 160]'"),
        (list[str], "a list, such as '[a, b]'"),
        (dict[str, Any], "a mapping such as '{depth: 4}'"),
        (
            Literal["balanced"] | list[float] | None,
            "balanced, a list, such as '[0.2, 0.5]' or null",
        ),
    ],
)
def test_words(hint: Any, words: str) -> None:
    assert type_in_words(hint) == words


@pytest.mark.parametrize(
    ("hint", "symbol"),
    [
        (int, "INT"),
        (str | None, "TEXT|null"),
        (bool | str, "true|false|TEXT"),
        (Literal["no", "bf16"] | None, "no|bf16|null"),
        (tuple[float, ...], "[FLOAT,…]"),
        (tuple[int, int] | None, "[INT,INT]|null"),
        (dict[str, Any], "{NAME: VALUE, …}"),
        (list[SourceConfig], "[{path, weight, …},…]"),
    ],
)
def test_symbols(hint: Any, symbol: str) -> None:
    assert type_symbol(hint) == symbol
