"""Temporary files of this process, which loader workers map into memory by their paths."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path


def scratch_file(name: str) -> Path:
    """Return the path of a new temporary file, which is deleted when this process ends.

    Args:
        name: The end of the file's name.
    """
    return Path(tempfile.mkdtemp(dir=_folder())) / name


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="mae_et_")
    # Below zero: after the workers have been killed, see `mae_et.workers`.
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-1)
    return folder
