"""Read metrics.jsonl, of which every line is checked: somebody else may have written it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import open_text, parse_json

MOST_CHARACTERS = 2**16
"""The most characters of a line. (Ours have a few hundred.)"""

MOST_LINES = 2**21
"""The most lines; a run of a million steps that logs each of them has as many, and evaluations."""

LARGEST_STEP = 2**53

LARGEST_SIZE = 2**16
"""The most pixels of an input's side."""

ANY, COUNT, SHARE = (-1e100, 1e100), (0, 1e100), (0, 1)

NUMBERS = {
    **dict.fromkeys(("loss", "eval_loss", "lr", "epoch"), ANY),
    **dict.fromkeys(("seconds", "images", "images_per_s", "data_wait"), COUNT),
    **dict.fromkeys(("top1", "top5", "knn_top1", "linear_top1"), SHARE),
    "time": (0, 2**36),  # the year 4147
}
"""The range of what is a number, or null where it was not finite, if a line has it."""


def read_metrics(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a metrics.jsonl, without those that a kill has truncated.

    Args:
        file: The file; if it is missing, there are no lines.

    Raises:
        ValueError: A line is none that a run writes; the message names it.
        OSError: The file can't be read.
    """
    try:
        opened = open_text(file, within=file.parent)
    except FileNotFoundError:
        return
    with opened:
        for number in range(1, MOST_LINES + 1):
            text = opened.readline(MOST_CHARACTERS)
            if not text:
                return
            try:
                if len(text) == MOST_CHARACTERS and not text.endswith("\n"):
                    raise ValueError(f"is longer than {MOST_CHARACTERS:,} characters")
                line = _parse(text)
                if line is not None:
                    yield line
            except ValueError as error:
                raise ValueError(f"line {number} of {file} {error}") from error
        raise ValueError(f"{file} must have at most {MOST_LINES:,} lines")


def _parse(text: str) -> dict[str, Any] | None:
    """Return the contents of a line; None if it was truncated by a kill, or is empty.

    Raises:
        ValueError: It is none that a run writes.
    """
    try:
        line = parse_json(text)
    except json.JSONDecodeError:
        return None
    except ValueError as error:
        raise ValueError(f"can't be read: {error}") from error
    if not isinstance(line, dict):
        raise ValueError(f"must be a mapping, got {_short(line)}")
    if type(line.get("step")) is not int or not 0 <= line["step"] < LARGEST_STEP:
        raise ValueError(f"must have a step from 0 to 2**53, got {_short(line.get('step'))}")
    for name, (least, most) in NUMBERS.items():
        value = line.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and least <= value <= most):
            raise ValueError(f"must have a number as {name}, got {_short(value)}")
    sides = line.get("size", 1) if isinstance(line.get("size"), list) else [line.get("size", 1)]
    if not 1 <= len(sides) <= 2 or not all(type(n) is int and 0 < n <= LARGEST_SIZE for n in sides):
        raise ValueError(f"must have a size in pixels, got {_short(line['size'])}")
    return line


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
