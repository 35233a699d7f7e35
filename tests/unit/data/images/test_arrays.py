"""Images of any number of channels and of any type of number, from every kind of source."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from mae_et import data
from tests.support.arrays import CHANNELS, npy, pixels, tiff


def opened(cell: Any, in_chans: int = CHANNELS) -> data.ArrayImage:
    image = data.open_image(cell, in_chans, "a")
    assert isinstance(image, data.ArrayImage)
    return image


TIFFS = {
    "planes": {"planarconfig": "separate", "photometric": "minisblack"},
    "pages": {"photometric": "minisblack"},
    "compressed": {"planarconfig": "separate", "photometric": "minisblack", "compression": "zlib"},
    "other bytes": {"photometric": "minisblack", "byteorder": ">"},
}


@pytest.mark.parametrize("layout", TIFFS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff(layout: str, dtype: str) -> None:
    array = pixels(dtype)
    image = opened({"bytes": tiff(array, **TIFFS[layout]), "path": None})
    assert image.pixels.dtype.name == dtype
    np.testing.assert_array_equal(image.pixels, array)


@pytest.mark.parametrize("channels", [2, 3, 4, 13])
def test_tiff_of_interleaved_bands(channels: int) -> None:
    """As satellites have them, with a fourth band that is no alpha."""
    for dtype in ("uint8", "uint16"):
        array = pixels(dtype, channels=channels)
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        encoded = tiff(array.transpose(1, 2, 0), **options)
        if (channels, dtype) != (3, "uint8"):  # which is an RGB picture to Pillow
            image = opened({"bytes": encoded, "path": None}, channels)
            np.testing.assert_array_equal(image.pixels, array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_every_kind_of_column_gives_the_same_array(dtype: str, tmp_path: Path) -> None:
    array = pixels(dtype)
    last = array.transpose(1, 2, 0)
    lists = datasets.List
    columns: dict[str, tuple[Any, Any]] = {
        "channels first": (array, datasets.Array3D(array.shape, dtype)),
        "channels last": (last, datasets.Array3D(last.shape, dtype)),
        "of any size": (array.tolist(), lists(lists(lists(datasets.Value(dtype))))),
        ".npy": (npy(array), datasets.Value("binary")),
    }
    for name, (cell, feature) in columns.items():
        features = datasets.Features({"x": feature, "number": datasets.Value("int64")})
        rows = {"x": [cell, None], "number": [1, 2]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
        splits = data.load_splits(f"parquet:{tmp_path / name}.parquet")
        table = data.ImageTable(splits["train"], None, CHANNELS)
        image = table[0]
        assert isinstance(image, data.ArrayImage)
        assert image.pixels.dtype.name == dtype
        np.testing.assert_array_equal(image.pixels, array)
        with pytest.raises(data.UnreadableImageError, match="row 1: no image"):
            table[1]


def test_npy_members_of_webdataset_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(3):
            for suffix, content in (("npy", npy(pixels(number=number))), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    rows = data.load_splits(f"webdataset:{tmp_path}")["train"]
    table = data.ImageTable(rows, None, CHANNELS)
    for number in range(3):
        image = table[number]
        assert isinstance(image, data.ArrayImage)
        assert image.pixels.dtype == np.uint16
        np.testing.assert_array_equal(image.pixels, pixels(number=number))


def test_streamed_arrays(tmp_path: Path) -> None:
    """Each goes to a worker alone, without the batch of rows that it was read in."""
    feature = datasets.Array3D((CHANNELS, 20, 30), "uint16")
    rows = {"x": [pixels(number=number) for number in range(20)]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"x": feature}))
    table.to_parquet(tmp_path / "a.parquet")
    stream = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), split="train", streaming=True
    )
    cells = data.StreamedImages(stream, None, CHANNELS, num_images=20).hold_out(3, seed=0)
    assert len(pickle.dumps(cells)) < 4 * pixels().nbytes
    for number, cell in enumerate(cells):
        assert cell.name == f"shard 0 row {number}"
        np.testing.assert_array_equal(opened(cell.value).pixels, pixels(number=number))


def test_one_unit_for_all_types() -> None:
    """A grey value is the same number, whether it has 8 bits, 16, or is a share of white."""
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    expected = torch.from_numpy(grey.copy())
    for array in (grey, grey * np.uint16(257), (grey / 255).astype(np.float32), grey / 255):
        whole = opened(array, 1).decode()
        assert whole.dtype == (torch.uint8 if array is grey else torch.float32)
        torch.testing.assert_close(whole.float(), expected.float(), rtol=1e-6, atol=1e-5)
    assert opened(np.full((1, 2, 2), -3, np.int16), 1).decode().unique().tolist() == [-3 * 255]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_crops_are_those_of_pillow(dtype: str) -> None:
    array = pixels(dtype)
    box, size = data.Box(3, 4, 15, 24), (6, 11)
    crop = opened(array).crop(box, size)
    assert crop.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert torch.equal(opened(array).crop(box, (15, 24)), opened(array).decode()[:, 3:18, 4:28])
    largest = np.iinfo(dtype).max if dtype != "float32" else 1
    for channel, found in zip(array, crop, strict=True):
        picture = Image.fromarray((channel[3:18, 4:28] / largest * 255).astype(np.float32))
        expected = np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))
        if dtype == "uint8":
            difference = np.abs(found.numpy() - expected.clip(0, 255))
            assert difference.max() < 2  # columns and rows are resized one after the other
            assert difference.mean() < 0.5
        else:
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_keeps_16_bits(kind: str) -> None:
    array = pixels("uint16", channels=1)[0]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    cell = {"bytes": buffer.getvalue(), "path": None}
    np.testing.assert_array_equal(opened(cell, 1).pixels[0], array)
    for channel in opened(cell, 3).pixels:
        np.testing.assert_array_equal(channel, array)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (pixels(), "4 channels are asked for, it is 5 × 20 × 30"),
        (np.zeros((2, 4, 8, 8)), "4 channels are asked for, it is 2 × 4 × 8 × 8"),
        (np.zeros((4, 0, 8)), "no pixels"),
        (np.full((4, 8, 8), np.nan), "values that are not finite"),
        (np.zeros((4, 8, 8), complex), "pixels of type complex128"),
        ({"bytes": npy(np.zeros((4, 8, 8)))[:-9], "path": None}, "expected 2048 bytes got 2039"),
        ({"bytes": npy(np.array([{}])), "path": None}, "allow_pickle=False"),
        ({"bytes": b"II*\0" + bytes(30), "path": None}, "a: "),
    ],
)
def test_bad_arrays(cell: Any, reason: str) -> None:
    with pytest.raises(data.UnreadableImageError, match=reason):
        data.open_image(cell, 4, "a")


def test_a_picture_has_no_five_channels() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(data.UnreadableImageError, match="a picture, which can't have 5 channels"):
        data.open_image({"bytes": buffer.getvalue(), "path": None}, 5, "a")


def test_rows_of_several_lengths() -> None:
    rows = datasets.Dataset.from_dict({"x": [[[[1, 2], [3]]]]})
    with pytest.raises(data.UnreadableImageError, match="rows of several lengths"):
        data.ImageTable(rows, None, 1)[0]


def test_a_damaged_array_among_bytes_is_predicted_in_a_worker() -> None:
    """The black image in its place is of another type than the others."""
    file = io.BytesIO()
    np.save(file, pixels("uint8"))
    cells = [file.getvalue(), b"\x93NUMPY", file.getvalue()]
    table = data.ImageTable(datasets.Dataset.from_dict({"image": cells}), None, CHANNELS)
    transform = data.eval_transform(input_size=(CHANNELS, 8, 8))
    images = data.EveryImage([table], transform)
    (batch,) = data.make_loader(images, [[0, 1, 2]], 1, pin_memory=False)
    assert [bool(error) for error in batch["error"]] == [False, True, False]
    assert batch["image"].dtype == torch.float32
    assert torch.equal(batch["image"][0], batch["image"][2])
    assert batch["image"][0].max() > 100


def test_colours_vary_alike_in_8_and_in_16_bits() -> None:
    """And floats, which have no white, are told so."""
    grey = pixels("uint8", channels=1)
    transform = data.PretrainTransform((15, 24), 4, (1.0, 1.0), color_jitter=0.4)
    found = []
    for array in (grey, grey * np.uint16(257)):
        torch.manual_seed(3)
        found.append(transform(opened(array, 1), 0, 0)["image"].float())
    assert (found[0] - found[1]).abs().max() < 6  # rounded after each of four changes
    assert found[0].std() > 20
    with pytest.raises(data.UnreadableImageError, match="color_jitter must be null for float32"):
        transform(opened(pixels("float32", channels=1), 1), 0, 0)
    later = data.PretrainTransform(
        (15, 24), 4, color_jitter=0.4, first_color_jitter=0, progress_at=lambda _: 0.0
    )
    with pytest.raises(data.UnreadableImageError, match="color_jitter must be null for float32"):
        later(opened(pixels("float32", channels=1), 1), 0, 0)  # not when the stage changes


def test_deep_and_shallow_images_in_one_batch(tmp_path: Path) -> None:
    """The same grey values as PNG of 8 and of 16 bits make the same samples."""
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey * np.uint16(257)).save(tmp_path / "b.png")
    table = data.ImageTable(data.load_splits(f"imagefolder:{tmp_path}")["train"], None, 1)
    transform = data.EvalTransform((16, 16), 4)
    batch = data.collate([transform(table[row], row, row) for row in (0, 1)])["image"]
    torch.testing.assert_close(batch[0], batch[1], rtol=1e-6, atol=1e-5)
    assert torch.equal(batch[0, 0], torch.from_numpy(grey).float())
