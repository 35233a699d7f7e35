"""Types of fields as users read them: "a number", "no, fp16, bf16 or null"; FLOAT, fp16|null."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

SYMBOLS = {
    int: "INT",
    float: "FLOAT",
    str: "TEXT",
    bool: "true|false",
    NoneType: "null",
}

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    dict: "a mapping such as '{depth: 4}'",
}


def type_in_words(hint: Any) -> str:
    """Return what a type allows, in words.

    Args:
        hint: The type of a field of a configuration.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _either([str(value) for value in parts])
    if origin in (Union, UnionType):
        words = []
        for part in parts:
            is_choice = get_origin(part) is Literal
            words += (
                [str(value) for value in get_args(part)] if is_choice else [type_in_words(part)]
            )
        return _either(words)
    if origin in (tuple, list):
        is_of_any_length = origin is list or Ellipsis in parts
        many = "a list" if is_of_any_length else f"a list of {len(parts)}"
        return f"{many}, such as '[{_example(parts)}]'"
    return WORDS.get(origin or hint, f"a {getattr(hint, '__name__', hint)}")


def type_symbol(hint: Any) -> str:
    """Return what a type allows as help shows it: INT, FLOAT|null, [FLOAT,…], avg|token.

    Args:
        hint: The type of an option.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join("null" if value is None else str(value) for value in parts)
    if origin in (Union, UnionType):
        return "|".join(type_symbol(part) for part in parts)
    if origin is tuple and Ellipsis not in parts:
        return f"[{','.join(type_symbol(part) for part in parts)}]"
    if origin in (tuple, list):
        return f"[{type_symbol(parts[0])},…]"
    if is_dataclass(hint):
        return f"{{{', '.join(field.name for field in fields(hint)[:2])}, …}}"
    if origin is dict or hint is dict:
        return "{NAME: VALUE, …}"
    return SYMBOLS.get(hint, getattr(hint, "__name__", str(hint)).upper())


def _example(parts: tuple[Any, ...]) -> str:
    """Return the inside of an example of a list."""
    examples = {int: ("224", "160"), float: ("0.2", "0.5"), str: ("a", "b")}
    number = 2 if len(parts) == 1 or Ellipsis in parts else len(parts)
    return ", ".join((examples.get(parts[0], ("{…}", "{…}")) * number)[:number])


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
