"""What an error in opening a data set means: `datasets` and its users' files raise any kind."""

from __future__ import annotations

from pathlib import Path

import datasets
from datasets.exceptions import DatasetBuildError, DatasetNotFoundError

from ..errors import first_line
from .tables import NoFilesError


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
    if isinstance(cause, OSError) and _is_of_cache(cause):
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
    """Whether an error is about the cache, a file in it, or a folder above it."""
    if error.filename is None:
        return error.errno is not None and not isinstance(error, FileNotFoundError)
    cache, file = Path(datasets.config.HF_DATASETS_CACHE), Path(str(error.filename))
    return cache.is_relative_to(file) or file.is_relative_to(cache)
