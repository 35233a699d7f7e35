"""What is said when data are opened, and that `datasets` draws no bars meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import torch

from finetune.results import write_results
from mae_et import data
from mae_et.data.found import describe_counts
from tests.support.tables import picture_bytes, write_parquet, write_tar


@pytest.fixture
def bars() -> Iterator[None]:
    """With bars of `datasets`, as users have them."""
    disabled = datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()
    yield
    if disabled:
        datasets.disable_progress_bars()


def test_counts_in_words() -> None:
    assert describe_counts({"train": 96, "test": 24}, 3) == "train 96, test 24 images, 3 classes"
    assert describe_counts({"train": 1200}, 1) == "1,200 images, 1 class"
    assert describe_counts({"train": 1}) == "1 image"
    assert describe_counts({"test": 24}) == "test 24 images"


def test_tables_are_told_once_and_without_bars(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], bars: None
) -> None:
    picture = picture_bytes(9)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    for split, number in (("train", 3), ("test", 2)):
        cells = [{"bytes": picture, "path": None}] * number
        rows = {"image": cells, "label": [0] * number}
        saved = datasets.Dataset.from_dict(rows, features=features)
        write_parquet(tmp_path / "pq" / f"{split}.parquet", **saved.data.table.to_pydict())
        write_tar(
            tmp_path / "tar" / f"{split}.tar", {f"{row}.png": picture for row in range(number)}
        )
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(tmp_path / "disk")
    capfd.readouterr()
    for path in (f"parquet:{tmp_path}/pq", f"webdataset:{tmp_path}/tar"):
        data.load_splits(path)
        data.load_splits(path)
        assert capfd.readouterr().err == f"{path}: train 3, test 2 images\n"
    data.load_splits(f"disk:{tmp_path}/disk")
    said = f"disk:{tmp_path}/disk: train 2, test 2 images, 2 classes\n"
    assert capfd.readouterr().err == said
    logits, labels = torch.eye(2), torch.tensor([0, 1])
    write_results(tmp_path, ["a", "b"], logits, labels, ["cat", "dog"])
    assert "Creating parquet" not in capfd.readouterr().err
    assert not datasets.are_progress_bars_disabled()


def test_bars_are_left_as_they_were(bars: None) -> None:
    with pytest.raises(KeyError), data.without_bars():
        raise KeyError
    assert not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    with data.without_bars():
        assert datasets.are_progress_bars_disabled()
    assert datasets.are_progress_bars_disabled()
