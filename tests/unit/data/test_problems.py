"""Errors in opening data sets: what they mean, their cause and their file."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DatasetGenerationError

from mae_et import data
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
