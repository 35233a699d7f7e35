"""Recipes and command lines: named YAML recipes, dotted overrides, one-line errors.

jsonargparse does the parsing; this adds recipes by name, and the nearest name for a typing error.
Shared by `mae_et` and `finetune`.
"""

from __future__ import annotations

import errno
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class RunStoppedError(RuntimeError):
    """A run that cannot go on, for a reason that the user has to act on. One line."""


class ProcessStoppedError(RunStoppedError):
    """The same, where only one of the processes knows of it."""


class RunInterruptedError(RuntimeError):
    """A run that was asked to stop, and that `--resume auto` goes on with. One line."""


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


def run_command(command: Callable[[], object]) -> int:
    """Run a command: 0, or one line on stderr and another code.

    2 for a bad input, 3 for a run that can't go on, 75 (EX_TEMPFAIL) for one that was asked to stop
    and has saved a checkpoint, 130 for one that was stopped at once; 1 and a traceback for what
    nobody expects. MAE_ET_TRACEBACK=1 in the environment shows the traceback of the others too.
    """
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return _report(error)  # Python would keep the traceback, and in it a loader and its workers
    return 0


def _report(error: BaseException) -> int:
    """Say what has ended a command; the exit code."""
    if os.environ.get("MAE_ET_TRACEBACK"):
        traceback.print_exception(error)
    match error:
        case ValueError() | RunStoppedError():
            everywhere = isinstance(error, ProcessStoppedError)
            _print_once(f"error: {_own_message(error)}", everywhere=everywhere)
            return 3 if isinstance(error, RunStoppedError) else 2
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            _print_once(f"error: {error}")
            return 3
        case RunInterruptedError():
            _print_once(str(error))
            return os.EX_TEMPFAIL
        case KeyboardInterrupt():
            print("interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
            return 130
        case BrokenPipeError() if _is_output_closed():
            return 1
    if not os.environ.get("MAE_ET_TRACEBACK"):
        traceback.print_exception(error)
    return 1


def _is_output_closed() -> bool:
    """Whether whoever reads the output wants no more of it, as in `… | head`."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _own_message(error: Exception) -> str:
    """What an error says, without the traceback that it brings along from a loader's worker."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text


def _print_once(line: str, *, everywhere: bool = False) -> None:
    if everywhere or os.environ.get("RANK", "0") == "0":  # else every process finds the same
        print(re.sub(r"\s+", " ", line).strip(), file=sys.stderr)
