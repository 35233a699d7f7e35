"""Import the user's own code, named on the command line as module:callable."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def import_callable(name: str, field: str) -> Callable[..., Any]:
    """Import a function or class on Python's path.

    Args:
        name: The name, as "module:callable".
        field: The field of the configuration that has the name, for messages.

    Raises:
        ValueError: The module cannot be imported, or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the user's module may do anything
        raise ValueError(
            f"{field} {name!r}: can't import module {module_name!r}: {error} (Python looks "
            "in the folders of PYTHONPATH, and under python -m in the current one)"
        ) from error
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ValueError(f"{field} {name!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"{field} {name!r} must be callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]
