"""Temporary files of this process, which loader workers map into memory by their paths.

They are in one folder, which is deleted when the process ends. A process that is killed cannot do
so: the next one that needs such a folder deletes what the dead have left. The owner of a folder
holds a lock on a file in it for as long as it lives, and the system drops the lock with the
process, so that a folder whose lock can be taken has no owner.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

PREFIX = "mae_et_"
LOCK = "lock"


def scratch_file(name: str) -> Path:
    """Return the path of a new temporary file, which is deleted when this process ends.

    Args:
        name: The end of the file's name.
    """
    return Path(tempfile.mkdtemp(dir=_folder())) / name


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    _lock(folder)
    # Below zero: after the workers have been killed, see `mae_et.workers`.
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-1)
    _delete_abandoned(folder.parent)
    return folder


def _lock(folder: Path) -> None:
    """Lock a folder until this process ends, if its file system has locks."""
    new = folder / "unlocked"
    lock = os.open(new, os.O_CREAT | os.O_RDWR)  # open for good, and not inherited
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return  # without a lock file, nobody deletes the folder
    new.rename(folder / LOCK)  # at no time is there one that is not locked


def _delete_abandoned(parent: Path) -> None:
    """Delete the folders of this user whose owner is dead."""
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        folder = lock.parent
        try:
            is_own = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
            number = os.open(lock, os.O_RDWR | os.O_NOFOLLOW) if is_own else None
        except OSError:
            continue  # just deleted, or somebody else's
        if number is None:
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its owner is alive
        finally:
            os.close(number)
