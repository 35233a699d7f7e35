"""Write files and folders under a temporary name, then rename them: nobody sees half of one.

And lock a folder, so that nobody else writes there.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from ..errors import RunStoppedError


def write_text(file: Path, text: str) -> None:
    """Write a text file, replacing an existing one."""
    unfinished = file.with_name(file.name + ".tmp")
    unfinished.unlink(missing_ok=True)  # what it may link to is not ours to write
    unfinished.write_text(text)
    unfinished.replace(file)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write in, which replaces `folder` if all goes well.

    Args:
        folder: The folder to replace if it exists; it is left unchanged if anything fails.

    Raises:
        RunStoppedError: The folder cannot be written.
    """
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for file in unfinished.iterdir():  # safetensors makes its files private
            file.chmod(unfinished.stat().st_mode & (0o777 if file.is_dir() else 0o666))
        replace_folder(folder, unfinished)
    except (OSError, SafetensorError) as error:
        raise RunStoppedError(f"{folder} can't be written ({error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def replace_folder(folder: Path, new: Path) -> None:
    """Put a new folder in the place of another, which is removed first if it exists."""
    if folder.exists():
        remove_folder(folder)
    new.rename(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder, which must not look complete while it is being removed."""
    going = folder.with_name(folder.name + ".old.tmp")
    shutil.rmtree(going, ignore_errors=True)
    shutil.rmtree(folder.rename(going))


def lock(file: Path, field: str) -> IO[str]:
    """Lock the folder of a file until the returned file is closed, or the process ends.

    It is a record lock: loader processes do not inherit it, and a killed run leaves none behind.

    Args:
        file: The file that is locked in the folder's name; it is created if necessary.
        field: The field or option that gives the folder, for messages.

    Raises:
        ValueError: Another process has locked it.
        OSError: The file cannot be written.
    """
    opened = file.open("a")
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            return opened
        opened.close()
        raise ValueError(
            f"{field} must be free, got {file.parent}, in use by another run"
        ) from None
    return opened
