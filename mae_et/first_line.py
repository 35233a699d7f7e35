"""The first line of a command, which tells that it works while PyTorch is imported.

That takes seconds, and tens of seconds on a file system of a cluster. Commands import it when their
options are known to be valid, so the line comes then, and none comes before an error or `--help`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .errors import print_once


class _Announcer(MetaPathFinder):
    """Finds nothing, but prints a line, once, when PyTorch is looked for."""

    def __init__(self, line: str) -> None:
        self._line: str | None = line

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave every module to the finders of Python."""
        if fullname == "torch" and self._line is not None:
            line, self._line = self._line, None
            print_once(line)
        return None


@contextmanager
def first_line(line: str) -> Iterator[None]:
    """Print a line to stderr when PyTorch is imported inside, in one process of a run only.

    There is none if it has been imported, since nobody waits for it then.

    Args:
        line: The line.
    """
    announcer = _Announcer(line)
    if "torch" not in sys.modules:
        sys.meta_path.insert(0, announcer)
    try:
        yield
    finally:
        if announcer in sys.meta_path:
            sys.meta_path.remove(announcer)
