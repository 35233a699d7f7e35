"""What is found of images, against numbers known from how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from mae_et.auto import facts as module
from mae_et.auto.facts import look_at_images
from mae_et.config import DataConfig

RNG = np.random.default_rng(0)


def noise(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def folder(root: Path, pictures: dict[str, Image.Image]) -> DataConfig:
    root.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.save(root / name)
    return DataConfig(path=str(root))


def test_grey_pictures_are_grey_whatever_their_mode(tmp_path: Path) -> None:
    one = noise(40, 50)
    pictures = {f"{n}.png": Image.fromarray(noise(40, 50)) for n in range(10)}
    pictures["rgb.png"] = Image.fromarray(np.stack([one] * 3, axis=2))
    found = look_at_images(folder(tmp_path / "a", pictures), 0)
    assert (found.channels, found.grey, found.sampled, found.unreadable) == (1, 10, 10, 0)
    assert found.number == 10  # one is held out
    assert set(found.short_sides) == {40}
    assert found.mean == (pytest.approx(0.5, abs=0.01),)
    assert found.std == (pytest.approx(np.arange(256).std() / 255, abs=0.01),)
    assert found.flat == 0


def test_a_small_spot_of_colour_is_colour(tmp_path: Path) -> None:
    spot = np.zeros((32, 32, 3), np.uint8)
    spot[4:7, 8:11, 1] = 255
    source = folder(tmp_path / "a", {f"{n}.png": Image.fromarray(spot) for n in range(12)})
    assert look_at_images(source, 0).channels == 3


def test_what_is_flat_depends_on_the_range_of_all_images(tmp_path: Path) -> None:
    """12 bits in 16: a sixteenth of the scale, and as much structure as with all of it."""
    wave = (np.sin(np.arange(56) / 2)[:, None] + np.ones(56)) * 2000
    picture = Image.fromarray(wave.astype(np.uint16))
    source = folder(tmp_path / "a", {f"{n}.png": picture for n in range(12)})
    assert look_at_images(source, 0).flat < 0.1


def test_one_coloured_picture_makes_three_channels(tmp_path: Path) -> None:
    colours = np.zeros((30, 30, 3), np.uint8) + np.array([255, 0, 51], np.uint8)
    pictures = {f"{n}.png": Image.fromarray(noise(30, 30)) for n in range(9)}
    pictures |= {f"c{n}.png": Image.fromarray(colours) for n in range(3)}
    found = look_at_images(folder(tmp_path / "a", pictures), 0)
    assert found.channels == 3
    assert 0 < found.sampled - found.grey <= 3
    assert 0 < found.flat < 0.5
    only = look_at_images(
        folder(tmp_path / "b", {f"{n}.png": Image.fromarray(colours) for n in range(3)}), 0
    )
    assert only.mean == (1.0, 0.0, 0.2)
    assert only.std == (0.001, 0.001, 0.001)  # none, which no image could be divided by
    assert only.flat == 1


def test_large_pictures_are_reduced_and_their_sides_are_not(tmp_path: Path) -> None:
    sides = {f"{side}.png": Image.fromarray(noise(side, 2 * side)) for side in (100, 300, 500)}
    found = look_at_images(folder(tmp_path / "a", sides), 0)
    assert set(found.short_sides) <= {100, 300, 500}
    assert found.short_side(0.0) == found.short_sides[0]
    assert found.short_side(0.99) == found.short_sides[-1]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_arrays_have_the_channels_that_they_have(tmp_path: Path, channels: int) -> None:
    values = [RNG.random((channels, 12, 12), dtype=np.float32) for _ in range(20)]
    features = datasets.Features({"x": datasets.Array3D((channels, 12, 12), "float32")})
    datasets.Dataset.from_dict({"x": values}, features=features).save_to_disk(tmp_path / "d")
    found = look_at_images(DataConfig(path=f"disk:{tmp_path}/d"), 0)
    assert found.channels == channels
    assert found.mean == pytest.approx([0.5] * channels, abs=0.05)
    assert found.std == pytest.approx([12**-0.5] * channels, abs=0.05)


def test_unreadable_pictures_are_counted(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", {f"{n}.png": Image.fromarray(noise(9, 9)) for n in range(30)})
    for number in range(10):
        (tmp_path / "a" / f"broken{number}.png").write_bytes(b"no picture")
    found = look_at_images(source, 0)
    assert found.sampled + found.unreadable == found.number == 36  # of 40, four are held out
    assert 6 <= found.unreadable <= 10
    for file in (tmp_path / "a").glob("[0-9]*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"got 36 of which none is readable; last: .*png: "):
        look_at_images(source, 0)


def test_a_sample_may_be_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "LEAST_IMAGES", 5)
    source = folder(tmp_path / "a", {f"{n}.png": Image.fromarray(noise(9, 9)) for n in range(30)})
    assert look_at_images(source, 0).sampled == 5


def test_streams_are_looked_at_too(shards: dict[str, str]) -> None:
    found = look_at_images(DataConfig(path=shards["parquet"], streaming=True, eval_images=8), 0)
    assert found.sampled == 8
    assert found.number == 136


def test_the_number_of_channels_may_be_given(clothes: str) -> None:
    found = look_at_images(DataConfig(path=clothes), 0, 3)
    assert found.channels == 3
    assert len(set(found.mean)) == 1


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 50)
