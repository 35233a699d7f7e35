"""Errors of bad fields, in one line each."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise the one-line error of a bad field.

    Raises:
        ValueError: `ok` is false.
    """
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def first_line(error: BaseException) -> str:
    """What an error of any library says in one line; its kind if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def can_be_written(file: Path) -> bool:
    """Whether there is a place for a file: its folder exists and may be written to."""
    return file.parent.is_dir() and os.access(file.parent, os.W_OK) and not file.is_dir()


@contextmanager
def errors_of(section: str) -> Iterator[None]:
    """Errors of fields of `data` are those of another section's fields of the same names.

    Raises:
        ValueError: what was raised, with the names that the user knows.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"^data\.", f"{section}.", str(error))) from error


def check_positive(section: object, prefix: str, *names: str) -> None:
    """Check that the named number fields of a section are above zero."""
    for name in names:
        value = getattr(section, name)
        check(0 < value < math.inf, f"{prefix}.{name}", value, "above 0 and finite")
