"""Parquet files of others: their images, memory, names of rows, and broken ones."""

from __future__ import annotations

import base64
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_et import data
from mae_et.config.data import DataConfig
from mae_et.data.sources import open_streams
from mae_et.data.tables.parquet import BATCH_BYTES, read_batches
from tests.support.tables import (
    Hostile,
    npy_bytes,
    picture_bytes,
    replaced,
    shades,
    span,
    write_parquet,
)

PICTURES = [picture_bytes(shade) for shade in (10, 20, 30)]


def test_structs_without_metadata_are_images(tmp_path: Path) -> None:
    cells = [{"bytes": b, "path": "same.png"} for b in PICTURES]
    file = write_parquet(tmp_path / "a.parquet", image=cells, label=[0, 1, 0])
    assert shades(f"parquet:{file}") == [10, 20, 30]
    assert shades(str(file)) == [10, 20, 30]
    source = DataConfig(path=f"parquet:{file}", streaming=True, eval_images=1)
    train, held_out = data.open_images(source, 3, seed=0)
    assert (len(train), len(held_out)) == (2, 1)


def test_paths_are_relative_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t" / "i").mkdir(parents=True)
    for shade, content in zip((10, 20), PICTURES, strict=False):
        (tmp_path / "t" / "i" / f"{shade}.png").write_bytes(content)
    names = ["i/20.png", f"{tmp_path}/t/i/10.png"]
    file = write_parquet(tmp_path / "t" / "a.parquet", where=names, label=["x", "y"])
    monkeypatch.chdir(tmp_path)
    assert shades(f"parquet:{file}") == [20, 10]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([base64.b64encode(PICTURES[0]).decode()], r"base64 text such as 'iVBOR.*b64decode"),
        (["data:image/png;base64,AAAA"], "base64 text"),
        (["https://somewhere/a.jpg"], "addresses such as 'https://somewhere/a.jpg': download"),
        (["not/there.jpg"], "paths such as 'not/there.jpg', of no file"),
        ([[{"bytes": PICTURES[0], "path": None}] * 2], "lists of images, the first of 2"),
        ([[PICTURES[0]]], "lists of images"),
        (["a cat"], "there is none; all columns: image"),
    ],
)
def test_cells_that_have_to_be_converted_are_shown(
    cells: list[object], message: str, tmp_path: Path
) -> None:
    file = write_parquet(tmp_path / "a.parquet", image=cells * 3)
    for streaming in (False, True):
        source = DataConfig(path=f"parquet:{file}", streaming=streaming)
        with pytest.raises(ValueError, match=message) as error:
            data.open_images(source, 3, seed=0)
        assert len(str(error.value)) < 400


def test_bytes_and_arrays_stay_what_they_were(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", x=[PICTURES[0], npy_bytes(77)], y=["a", "b"])
    assert shades(f"parquet:{file}") == [10, 77]


def test_rows_are_named_as_in_their_file(tmp_path: Path) -> None:
    """Whatever is selected of them; and rows of the same path are not taken for one."""
    for name, bad in (("a", 3), ("b", 5)):
        cells = [
            {"bytes": b"broken" if row == bad else PICTURES[0], "path": "image.png"}
            for row in range(8)
        ]
        write_parquet(tmp_path / f"{name}.parquet", image=cells)
    expected = {"a.parquet row 3 (image.png)", "b.parquet row 5 (image.png)"}
    for streaming in (False, True):
        source = DataConfig(path=f"parquet:{tmp_path}", streaming=streaming, eval_images=2)
        train, held_out = data.open_images(source, 3, seed=0)
        if isinstance(train, data.StreamedImages):
            streamed = [cell for n in range(2) for cell in train.read(span(n, train))]
            opened = [partial(data.open_image, cell.value, 3, cell.name) for cell in streamed]
        else:
            opened = [partial(train.__getitem__, row) for row in range(len(train))]
        opened += [partial(held_out.__getitem__, row) for row in range(len(held_out))]
        assert len(opened) == 16
        assert {name for name in map(unreadable, opened) if name} == expected


def unreadable(open_one: Callable[[], data.AnyImage]) -> str | None:
    """The name of an image that can't be read."""
    try:
        open_one()
    except data.UnreadableImageError as error:
        return error.name
    return None


def test_a_row_group_is_read_in_small_batches(tmp_path: Path) -> None:
    """Arrow allocates pages, here of 4 rows, not the 32 MiB of the row group."""
    rng = np.random.default_rng(0)
    table = pa.table({"image": [rng.bytes(BATCH_BYTES // 4) for _ in range(128)]})
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, use_dictionary=False, write_batch_size=4)
    assert pq.read_metadata(file).num_row_groups == 1
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in read_batches(str(file)):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows <= 4
        rows += batch.num_rows
    assert rows == 128
    assert most < 8 * BATCH_BYTES


def test_a_changed_file_of_the_same_time_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.parquet"
    for shade in (10, 20):
        write_parquet(file, image=[{"bytes": picture_bytes(shade), "path": None}])
        os.utime(file, (1, 1))
        caplog.clear()
        assert shades(f"parquet:{file}") == [shade]
        assert f"{file} is copied once into" in caplog.text
    caplog.clear()
    assert shades(f"parquet:{file}") == [20]
    assert not caplog.text


def test_files_of_other_columns_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", image=PICTURES, label=[0, 1, 2])
    write_parquet(tmp_path / "b.parquet", image=PICTURES)
    with pytest.raises(
        ValueError, match=r"b\.parquet and .*a\.parquet differ in the columns label"
    ):
        data.load_splits(f"parquet:{tmp_path}")


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "four bytes": lambda file: file.write_bytes(b"PAR1"),
    "cut off at the end": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "another magic": lambda file: replaced(file, -4, b"ARROW"[:4]),
    "encrypted": lambda file: replaced(file, -4, b"PARE"),
    "a footer longer than the file": lambda file: replaced(file, -8, b"\xff\xff\xff\x7f"),
    "a footer of no bytes": lambda file: replaced(file, -8, bytes(4)),
    "a footer of noise": lambda file: replaced(file, -300, np.random.default_rng(0).bytes(250)),
    "pages of noise": lambda file: replaced(file, 4, np.random.default_rng(0).bytes(2000)),
    "a zip file": zipped,
    "text": lambda file: file.write_text("image,label\na.png,1\n" * 20),
    "a pickle": lambda file: file.write_bytes(pickle.dumps(Hostile())),
    "noise": lambda file: file.write_bytes(np.random.default_rng(0).bytes(5000)),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_file_among_good_ones_is_named(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [{"bytes": np.random.default_rng(n).bytes(900), "path": "a.png"} for n in range(20)]
    for name in "abc":
        write_parquet(tmp_path / "t" / f"{name}.parquet", image=cells)
    BROKEN[way](tmp_path / "t" / "b.parquet")
    path = f"parquet:{tmp_path}/t"
    with pytest.raises(ValueError, match=r"can't be read: .*t/b\.parquet can't be read") as error:
        data.load_splits(path)
    assert "\n" not in str(error.value)
    assert "generating the dataset" not in str(error.value)
    assert error.value.__cause__ is not None
    assert not Path("executed").exists()
    if way != "pages of noise":  # which show when they are read
        with pytest.raises(ValueError, match=r"t/b\.parquet can't be read"):
            data.open_images(DataConfig(path=path, streaming=True), 3, seed=0)


def write_labels(file: Path, labels: list[int | None], names: list[str]) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    images = [{"bytes": PICTURES[0], "path": None} for _ in labels]
    rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    rows.to_parquet(file)


def test_labels_of_files_that_number_the_classes_in_other_orders(tmp_path: Path) -> None:
    """Also if a file has more of them, which the first one lacks."""
    write_labels(tmp_path / "train-0.parquet", [0, 1, -1, None], ["cat", "dog"])
    write_labels(tmp_path / "train-1.parquet", [0, 1, 2], ["dog", "elk", "cat"])
    write_labels(tmp_path / "test-0.parquet", [0, 1], ["dog", "cat"])
    splits = data.load_splits(f"parquet:{tmp_path}")
    names = splits["train"].features["label"].names
    assert names == ["cat", "dog", "elk"]
    assert splits["train"]["label"][:] == [0, 1, None, None, 1, 2, 0]
    assert splits["test"]["label"][:] == [1, 0]
    streams, _ = open_streams(f"parquet:{tmp_path}")
    assert [names[row["label"]] for row in streams["test"]] == ["dog", "cat"]


def test_labels_of_files_with_names_or_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [{"bytes": PICTURES[0], "path": "x.png"}] * 2
    write_parquet(tmp_path / "a" / "0.parquet", image=images, label=["dog", "cat"])
    write_labels(tmp_path / "a" / "1.parquet", [0, 1, -1], ["cat", "dog"])
    rows = data.load_splits(f"parquet:{tmp_path / 'a'}")["train"]
    assert rows["label"][:] == ["dog", "cat", "cat", "dog", None]
    assert "no names" not in caplog.text
    write_parquet(tmp_path / "b" / "0.parquet", image=images, label=[1, 0])
    write_labels(tmp_path / "b" / "1.parquet", [0, 1], ["cat", "dog"])
    rows = data.load_splits(f"parquet:{tmp_path / 'b'}")["train"]
    assert rows.features["label"].int2str(rows["label"][:]) == ["dog", "cat", "cat", "dog"]
    assert "the numbers in 'label' of 1 files have no names" in caplog.text
