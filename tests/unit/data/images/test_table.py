"""The images of a table, whatever their cells hold."""

from __future__ import annotations

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
