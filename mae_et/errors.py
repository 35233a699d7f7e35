"""One-line errors: the exceptions, the checks that raise them, and the exit codes.

Everything may import this module, so it imports nothing from the project and nothing heavy.
"""

from __future__ import annotations

import atexit
import errno
import importlib.util
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

LONGEST_LINE = 2000
"""The most characters of an error that are shown; a value from a file may have a million."""


MAX_DEPTH = 256
"""The most blocks of a model, or of one of its stages."""

THREAD_SECONDS = 10.0
"""How long a process that ends waits for its threads, which may hang in reading."""


class RunStoppedError(RuntimeError):
    """A run cannot continue, for a reason that the user must act on. The message is one line."""


class ProcessStoppedError(RunStoppedError):
    """A run cannot continue, and only one of its processes knows why."""


class RunInterruptedError(RuntimeError):
    """A run was asked to stop, and `--resume auto` continues it. The message is one line."""


class RunReplannedError(RuntimeError):
    """What is left of a run has been replanned; it goes on from the checkpoint just saved.

    Args:
        began: When the hours of the run began, less the time of its steps so far.
    """

    def __init__(self, began: float) -> None:
        super().__init__("the run has been replanned; --resume auto continues")
        self.began = began


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise the one-line error about a bad field.

    Args:
        ok: Whether the value is allowed.
        name: The name of the field as users know it, such as "optim.epochs".
        value: What was given.
        allowed: What is allowed instead.

    Raises:
        ValueError: `ok` is false.
    """
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def check_depths(section: str, arguments: Mapping[str, Any]) -> None:
    """Check that a model has no more blocks than anyone trains: to build a million takes minutes.

    Args:
        section: The section of the configuration that has the arguments, for messages.
        arguments: The arguments of a model, of which depth, layers and blocks may be numbers.

    Raises:
        ValueError: One of them is too large.
    """
    for name, value in arguments.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        is_depth = any(word in str(name) for word in ("depth", "layers", "blocks"))
        too_many = is_depth and any(isinstance(n, int) and n > MAX_DEPTH for n in numbers)
        check(not too_many, f"{section}.{name}", value, f"at most {MAX_DEPTH}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


def is_installed(module: str) -> bool:
    """Return whether a module can be imported; an empty folder of its name is none.

    Python takes any such folder, in the working directory for example, for a namespace package.

    Args:
        module: The name of the module, without dots.
    """
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None


def can_be_written(file: Path) -> bool:
    """Return whether a file can be created: its folder exists and is writable."""
    return file.parent.is_dir() and os.access(file.parent, os.W_OK) and not file.is_dir()


@contextmanager
def errors_of(section: str) -> Iterator[None]:
    """Report errors about fields of `data` as errors about another section's fields.

    Args:
        section: The section whose fields of the same names the user has set, such as "eval".

    Raises:
        ValueError: One was raised inside; the message has the names that the user knows.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"^data\.", f"{section}.", str(error))) from error


def check_positive(section: object, prefix: str, *names: str) -> None:
    """Check that the named numbers of a section are above zero and finite.

    Args:
        section: The section.
        prefix: Its name, for messages.
        names: The fields to check.

    Raises:
        ValueError: One of the numbers is not.
    """
    for name in names:
        value = getattr(section, name)
        check(0 < value < math.inf, f"{prefix}.{name}", value, "above 0 and finite")


def run_command(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; an error is one line on stderr.

    The codes are 0 for success, 2 for a bad input, 3 for a run that cannot continue, 75
    (EX_TEMPFAIL) for a run that was asked to stop and has saved a checkpoint, 130 for one that was
    stopped at once, and 1 with a traceback for anything unexpected. MAE_ET_TRACEBACK=1 in the
    environment shows the traceback of the expected errors too.

    Args:
        command: What to run.
    """
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # Returned rather than raised: Python would keep the traceback, and in it loader workers.
        return _exit_code(error)
    return 0


def end_process(code: int) -> NoReturn:
    """End this process with an exit code, after its exit handlers, as multiprocessing ends its own.

    Python would go on to take the interpreter apart while threads of C++ libraries run. One that
    then asks for the interpreter (a reader of Arrow, a process group of gloo) aborts the process
    with 134 or waits forever, and the scheduler sees a crash in place of the code
    (https://github.com/apache/arrow/issues/45214). Threads that are no daemons are waited for, but
    not for more than `THREAD_SECONDS`: one that reads from a file system that hangs never ends.

    Args:
        code: The exit code.
    """
    has_ended = threading.Event()

    def give_up() -> None:
        if not has_ended.wait(THREAD_SECONDS):
            os._exit(code)

    try:
        threading.Thread(target=give_up, daemon=True).start()
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
        has_ended.set()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException) -> int:
    """Report the error that ended a command, and return the exit code."""
    has_traceback = bool(os.environ.get("MAE_ET_TRACEBACK"))
    if has_traceback:
        traceback.print_exception(error)
    code = _report_expected(error)
    if code is None and not has_traceback:
        traceback.print_exception(error)
    return 1 if code is None else code


def _report_expected(error: BaseException) -> int | None:
    """Report an expected error in one line and return its code; return None for any other."""
    match error:
        case ValueError() | RunStoppedError():
            everywhere = isinstance(error, ProcessStoppedError)
            print_once(f"error: {_own_message(error)}", everywhere=everywhere)
            return 3 if isinstance(error, RunStoppedError) else 2
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            print_once(f"error: {error}")
            return 3
        case RunInterruptedError():
            print_once(str(error))
            return os.EX_TEMPFAIL
        case KeyboardInterrupt():
            notes = getattr(error, "__notes__", [])  # of the run that was interrupted, if any
            print("; ".join(["interrupted", *notes]), file=sys.stderr)
            return 130
        case BrokenPipeError() if _is_output_closed():
            return 1
    return None


def _is_output_closed() -> bool:
    """Return whether the reader of the output has closed it, as in `… | head`."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _own_message(error: Exception) -> str:
    """Return an error's message without the traceback that a loader worker adds to it."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text


_said: set[str] = set()
"""What `say_once` has said."""


def say_once(line: str) -> None:
    """Print a line as `print_once` does, unless it has been said since `forget_said`.

    A run opens its data several times: to look at them, to measure, to train and to probe.

    Args:
        line: The line.
    """
    if line not in _said:
        _said.add(line)
        print_once(line)


def forget_said() -> None:
    """Let another run in the same process say again what it finds."""
    _said.clear()


def print_once(line: str, *, everywhere: bool = False) -> None:
    """Print a line to stderr, in one process of a run only.

    Args:
        line: The line; white space in it is made single spaces.
        everywhere: Whether every process prints it.
    """
    is_alone = os.environ.get("WORLD_SIZE", "1") in ("", "0", "1")  # then RANK is a stray
    if everywhere or is_alone or os.environ.get("RANK", "0") == "0":  # all find the same
        line = re.sub(r"\s+", " ", line).strip()
        print(line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …", file=sys.stderr)
