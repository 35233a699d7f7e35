"""Errors in opening data sets: what they mean, their cause and their file."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DatasetGenerationError

from mae_et import data
from tests.support.paths import ROOT
from tests.support.tables import picture_bytes, write_parquet

CACHE = str(datasets.config.HF_DATASETS_CACHE)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (ValueError("a column is bad"), "can't be read: a column is bad"),
        (PermissionError(errno.EACCES, "Permission denied", f"{CACHE}/a.lock"), "set HF_HOME"),
        (
            OSError(errno.EROFS, "Read-only file system", CACHE),
            r"\(Read-only file system\): set HF",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), r"\(No space left on device\): set HF"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/a"), "can't be read: .*/data/a"),
        (ImportError("No module named 'scipy.x'"), "a package that can't be imported: No module"),
        (EmptyDatasetError("no data files"), "holds no data set of this kind: no data files"),
    ],
)
def test_the_cause_is_told(cause: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**_: Any) -> None:
        raise DatasetGenerationError("An error occurred while generating the dataset") from cause

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=message) as error:
        data.load_splits("hub:me/cats")
    assert "generating" not in str(error.value)
    assert error.value.__cause__ is not None
    assert error.value.__cause__.__cause__ is cause


def test_a_cache_that_can_not_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_parquet(tmp_path / "a.parquet", image=[picture_bytes(1)])
    (tmp_path / "home").write_text("a file")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    with pytest.raises(ValueError, match=r"needs the cache .*home/datasets, .* set HF_HOME"):
        data.load_splits(f"parquet:{file}")


READ_ONLY = """
mount --bind "$HF_HOME" "$HF_HOME" && mount -o remount,ro,bind "$HF_HOME" && exec "$0" -m mae_et \
stats --data.path "$1" --in_chans 1
"""


def test_a_read_only_cache_names_hf_home(clothes: str, tmp_path: Path) -> None:
    """Although it holds the data set already."""
    if subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"]).returncode:
        pytest.skip("may not mount here")
    environment = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    options = ["-m", "mae_et", "stats", "--data.path", clothes, "--in_chans", "1"]
    ran = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        for command in (
            [sys.executable, *options],
            ["unshare", "-m", "bash", "-c", READ_ONLY, sys.executable, clothes],
        )
    ]
    assert [process.returncode for process in ran] == [0, 2], ran
    first, line = ran[1].stderr.splitlines()
    assert "begins by importing PyTorch" in first
    assert line.startswith(
        f"error: data.path '{clothes}' needs the cache of `datasets`, {tmp_path}"
    )
    assert line.endswith("(Read-only file system): set HF_HOME to a folder that can be")
