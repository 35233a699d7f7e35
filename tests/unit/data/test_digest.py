"""Digests of images, by which a changed data set is noticed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from mae_et.data import ImageTable, digest_images, file_states, load_splits
from mae_et.data.mixture import Mixture


def folder(root: Path, number: int = 5) -> Path:
    for index in range(number):
        file = root / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (10 + index))
    return root


def digest(path: Path | str) -> str:
    return digest_images(ImageTable(load_splits(str(path))["train"], None, 1))


def touch(root: Path) -> None:
    os.utime(root / "a/0.png", (0, 0))


CHANGES: list[tuple[Callable[[Path], object], bool]] = [
    (touch, False),
    (lambda root: (root / "notes.txt").write_text("no image"), False),
    (lambda root: (root / "a/0.png").write_bytes(b"x" * 11), True),
    (lambda root: (root / "a/0.png").rename(root / "b/0.png"), True),
    (lambda root: (root / "a").rename(root / "c"), True),
    (lambda root: (root / "b/3.png").unlink(), True),
    (lambda root: (root / "b/9.png").write_bytes(b"x"), True),
]


@pytest.mark.parametrize(("change", "is_noticed"), CHANGES)
def test_a_folder(tmp_path: Path, change: Callable[[Path], object], is_noticed: bool) -> None:
    before = digest(folder(tmp_path / "images"))
    assert digest(folder(tmp_path / "elsewhere")) == before  # a copy, with other times
    change(tmp_path / "images")
    assert (digest(tmp_path / "images") != before) is is_noticed


def rows(shades: list[int], size: int = 8) -> datasets.Dataset:
    cells = []
    for shade in shades:
        file = io.BytesIO()
        noise = np.random.default_rng(shade).integers(0, 255, (size, size), dtype=np.uint8)
        Image.fromarray(noise).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    return datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image()})
    )


def test_cells_with_bytes(tmp_path: Path) -> None:
    def of(images: datasets.Dataset) -> str:
        return digest_images(ImageTable(images, None, 1))

    before = of(rows([1, 2, 3]))
    assert of(rows([1, 2, 3])) == before
    assert of(rows([1, 2])) != before
    assert of(rows([1, 2, 3], size=9)) != before
    rows([1, 2, 3]).to_parquet(tmp_path / "d.parquet")
    assert digest(f"parquet:{tmp_path}/d.parquet") == before
    other = ImageTable(rows([4, 5], size=9), None, 1)
    mixed = Mixture([ImageTable(rows([1, 2]), None, 1), other])
    assert digest_images(mixed) != digest_images(Mixture([other, other]))


def test_states_of_files(tmp_path: Path) -> None:
    files = [str(tmp_path / str(number)) for number in range(100)]
    for number, file in enumerate(files[:-1]):
        Path(file).write_bytes(b"x" * number)
        os.utime(file, ns=(number, number))
    features = datasets.Features({"image": datasets.Image(decode=False)})
    states = file_states(datasets.Dataset.from_dict({"image": files}, features=features), "image")
    expected = [(file, number, number) for number, file in enumerate(files[:-1])]
    assert [state[:3] for state in states] == [*expected, (files[-1], -1, -1)]


def test_structs_without_a_path() -> None:
    cells = {"image": [{"bytes": b"1"}, {"bytes": b"22"}, {"bytes": None}]}
    table = ImageTable(datasets.Dataset.from_dict(cells), None, 1)
    assert digest_images(table) == digest_images(table)
