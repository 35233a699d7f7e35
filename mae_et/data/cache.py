"""The cache of `datasets`, where it keeps copies of what is not read in place."""

from __future__ import annotations

import errno
from pathlib import Path

import datasets

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


def check_cache(path: str, error: BaseException) -> None:
    """Blame the cache for an error in opening a data set, if it comes from there.

    The cache is locked, and so written to, even where it holds the data set already.

    Args:
        path: The data set, as in `data.path`.
        error: The error, or one that it caused.

    Raises:
        ValueError: The cache cannot be written to.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE).parent
    cause: BaseException | None = error
    while cause is not None:
        file = getattr(cause, "filename", None)
        is_cached = isinstance(file, str) and Path(file).is_relative_to(cache)
        if isinstance(cause, OSError) and cause.errno in UNWRITABLE and is_cached:
            raise ValueError(
                f"data.path {path!r} can't be opened, since {cache} can't be written to "
                f"({cause.strerror}); set HF_HOME to a folder that can"
            ) from error
        cause = cause.__cause__ or cause.__context__
