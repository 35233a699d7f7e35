"""The images of a table, whatever their cells hold."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from mae_et import data
from tests.support.images import png, table


@pytest.mark.parametrize(("in_chans", "shape"), [(1, (1, 8, 8)), (3, (3, 8, 8)), (4, (4, 8, 8))])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
def test_images_of_any_mode(mode: str, in_chans: int, shape: tuple[int, ...]) -> None:
    image = Image.new("RGB", (12, 10), (255, 0, 0)).convert(mode)
    images = table([image], in_chans)
    sample = data.EvalTransform((8, 8), 4)(images[0], 0, 0)
    assert sample["image"].shape == shape
    assert sample["image"].dtype == torch.uint8
    if mode in ("P", "RGB", "RGBA", "CMYK") and in_chans == 3:
        assert sample["image"][:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=2)


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.new("L", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    images = data.ImageTable(
        datasets.Dataset.from_dict(
            {"image": [str(tmp_path / "turned.jpg")]},
            features=datasets.Features({"image": datasets.Image()}),
        ),
        None,
        1,
    )
    assert images[0].size == (20, 10)


def test_unreadable_bytes_in_a_table_are_named_once() -> None:
    rows = {"image": [{"bytes": b"nothing", "path": None}]}
    features = datasets.Features({"image": datasets.Image()})
    images = data.ImageTable(datasets.Dataset.from_dict(rows, features=features), None, 3)
    messages = set()
    for _ in range(2):
        with pytest.raises(data.UnreadableImageError) as error:
            images[0]
        messages.add(str(error.value))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "no image"),
        ({"bytes": None, "path": None}, "no image"),
        ({"bytes": None, "path": "/nowhere/a.jpg"}, "No such file or directory"),
        ({"bytes": png(0, 5), "path": None}, "no image"),
        ({"bytes": png(30_000, 30_000), "path": None}, "decompression bomb"),
    ],
)
def test_cells_without_an_image(cell: Any, reason: str) -> None:
    with pytest.raises(data.UnreadableImageError, match=reason):
        data.open_image(cell, 3, "a")


def test_states_of_files_tell_when_they_change(tmp_path: Path) -> None:
    """Of those that cells name without bytes; what cells hold is not looked up."""
    file = tmp_path / "a.png"
    file.write_bytes(png(4, 4))
    cells = [
        {"bytes": None, "path": str(file)},
        {"bytes": b"x", "path": "inside.png"},
        {"bytes": None, "path": "/nowhere.png"},
        None,
    ]
    rows = datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image()})
    )
    before = list(data.file_states(rows, "image"))
    assert [path for path, *_ in before] == [str(file), "/nowhere.png"]
    assert before[1][1:] == (-1, -1, -1, -1)
    file.write_bytes(png(5, 5) + b"longer")
    assert next(data.file_states(rows, "image")) != before[0]


def test_rows_have_the_numbers_that_they_had_before_a_selection() -> None:
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"bad", "path": "same.png"}] * 9},
        features=datasets.Features({"image": datasets.Image()}),
        split="train",
    )
    images = data.ImageTable(rows.select([8, 2, 5]).select([1, 0]), None, 3)
    names = []
    for row in range(2):
        with pytest.raises(data.UnreadableImageError) as error:
            images[row]
        names.append(error.value.name)
    assert names == ["train row 2 (same.png)", "train row 8 (same.png)"]


@pytest.mark.parametrize("chosen", [range(5), [3, 3, 0, 4]])
def test_rows_straight_from_arrow_are_those_of_the_data_set(chosen: Any, tmp_path: Path) -> None:
    """In several chunks, in any order, with and without bytes, with nothing in a cell."""
    file = tmp_path / "a.png"
    file.write_bytes(png(4, 4))
    cells: list[Any] = [{"bytes": png(5, 5), "path": name} for name in (None, "b.png")]
    cells += [None, {"bytes": None, "path": str(file)}, None]
    features = datasets.Features({"image": datasets.Image(), data.ORIGIN: datasets.Value("string")})
    parts = [
        datasets.Dataset.from_dict(
            {"image": cells[part], data.ORIGIN: [f"row {part.start}"] * len(cells[part])}, features
        )
        for part in (slice(0, 2), slice(2, 5))
    ]
    images = data.ImageTable(datasets.concatenate_datasets(parts).select(chosen), None, 3)
    assert [images._row(row) for row in range(len(images))] == list(images.rows)
    with pytest.raises(IndexError):
        images[len(images)]
    again = pickle.loads(pickle.dumps(images))
    assert [again._row(row) for row in range(len(again))] == list(images.rows)
    again.rows = images.rows.with_transform(lambda rows: {"image": ["!" for _ in rows["image"]]})
    again = copy.copy(again)  # which leaves the columns behind, as for a worker
    assert again._row(1) == {"image": "!"}


def test_an_empty_cell_is_not_looked_up_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(4, 4))
    with pytest.raises(data.UnreadableImageError, match="no image"):
        data.open_image({"bytes": b"", "path": str(tmp_path / "a.png")}, 3, "a")
