"""What an error in opening a data set means: `datasets` and its users' files raise any kind."""

from __future__ import annotations

import errno
from pathlib import Path

import datasets
from datasets.exceptions import DatasetBuildError, DatasetNotFoundError

from ..errors import first_line
from .tables import NoFilesError

UNWRITABLE = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EEXIST),  # where the cache should be, there is a file
}


def cause_of(error: BaseException) -> BaseException:
    """Return the error behind those of `datasets` that say only that there was one."""
    while isinstance(error, DatasetBuildError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def problem_of(error: BaseException) -> str:
    """Say what is wrong with a data set that can't be opened, to follow its path in a message.

    Args:
        error: What was raised in opening it.
    """
    cause = cause_of(error)
    message = first_line(cause)
    if isinstance(cause, OSError) and _is_of_cache(cause):  # locked even if it holds the data
        return (
            f"needs the cache of `datasets`, {datasets.config.HF_DATASETS_CACHE}, which can't be "
            f"written ({cause.strerror or message}): set HF_HOME to a folder that can be"
        )
    if isinstance(cause, ImportError):
        return f"needs a package that can't be imported: {message}"
    if isinstance(cause, NoFilesError | FileNotFoundError | DatasetNotFoundError):
        return f"holds no data set of this kind: {message}"
    return f"can't be read: {message}"


def _is_of_cache(error: OSError) -> bool:
    """Return whether an error is that the cache, or a folder above it, can't be written to."""
    if error.errno not in UNWRITABLE:
        return False
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    file = Path(str(error.filename or cache))
    return cache.is_relative_to(file) or file.is_relative_to(cache.parent)
