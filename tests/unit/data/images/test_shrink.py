"""Images made smaller: their pixels beside Pillow's, their orientation, and what stays as it is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mae_et import data
from tests.support.images import ORIENTATION, encode
from tests.support.photos import photo


def shrunk(content: bytes, short_side: int = 32, quality: int = 92) -> data.Shrunk:
    return data.shrink(content, "a", short_side=short_side, quality=quality)


def pixels_of(content: bytes, mode: str = "RGB") -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert(mode)).astype(float)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(120, 176), (1200, 900), (1201, 903)])  # no, 1/8, 1/8 resolution
def test_a_jpeg_has_the_pixels_of_a_resize_at_full_resolution(size: tuple[int, int]) -> None:
    content = encode(photo(0, *size))
    found = shrunk(content)
    assert (found.ending, found.how) == (".jpg", "resized")
    image = Image.open(io.BytesIO(content))
    scale = 32 / min(image.size)
    target = (round(image.width * scale), round(image.height * scale))
    whole = image.resize(target, Image.Resampling.BICUBIC)
    expected = pixels_of(saved(whole, "JPEG", quality=92))
    found_pixels = pixels_of(found.content)
    assert found_pixels.shape == expected.shape
    assert min(found_pixels.shape[:2]) == 32
    assert np.abs(found_pixels - expected).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_become_upright(orientation: int, kind: str, mode: str) -> None:
    content = encode(photo(1, mode=mode), kind, orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    for short_side in (32, 500):  # the latter only turns
        found = shrunk(content, short_side)
        image = Image.open(io.BytesIO(found.content))
        assert (image.mode, image.getexif().get(ORIENTATION)) in ((mode, None), (mode, orientation))
        scale = min(short_side / min(upright.size), 1)
        target = (round(upright.width * scale), round(upright.height * scale))
        if found.how == "resized":
            assert image.getexif().get(ORIENTATION) is None
            assert image.size == target
            expected = upright.resize(target, Image.Resampling.BICUBIC).convert("RGB")
            assert np.abs(pixels_of(found.content) - np.asarray(expected)).mean() < 2
        else:
            assert orientation == 1
            assert found.content == content


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_lossless_pictures_become_exact_png(kind: str) -> None:
    content = saved(photo(2), kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = shrunk(content)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    expected = image.resize((47, 32), Image.Resampling.BICUBIC)
    assert found.ending == ".png"
    np.testing.assert_array_equal(pixels_of(found.content), np.asarray(expected))


def test_a_lossy_webp_becomes_jpeg() -> None:
    assert shrunk(saved(photo(2), "WEBP", quality=90)).ending == ".jpg"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept_where_there_is_any(mode: str) -> None:
    image = photo(3).convert(mode)
    opaque = shrunk(saved(image, "PNG"))
    assert Image.open(io.BytesIO(opaque.content)).mode == ("RGB" if mode == "RGBA" else "L")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    for content in (saved(image, "PNG"), saved(image.convert("RGBA"), "WEBP", quality=90)):
        found = shrunk(content)
        assert found.ending == ".png"
        whole = data.open_image({"bytes": content}, 3, "a").decode()
        seen = data.open_image({"bytes": found.content}, 3, "a").decode()
        expected = np.asarray(whole.resize((47, 32), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(np.asarray(seen) - expected).max() <= 3


@pytest.mark.parametrize(("mode", "then"), [("1", "L"), ("L", "L"), ("P", "RGB"), ("CMYK", "RGB")])
def test_modes(mode: str, then: str) -> None:
    content = saved(photo(4).convert(mode), "TIFF")
    assert Image.open(io.BytesIO(shrunk(content).content)).mode == then


def test_metadata_are_not_kept_in_what_is_resized() -> None:
    profile, exif = b"a colour profile", Image.Exif()
    exif[0x010E] = "where it was taken"
    for kind in ("JPEG", "PNG"):
        content = saved(photo(5), kind, icc_profile=profile, exif=exif, comment="who took it")
        image = Image.open(io.BytesIO(shrunk(content).content))
        assert not {"icc_profile", "exif", "comment"} & image.info.keys()


def deep_kinds() -> dict[str, bytes]:
    deep = np.random.default_rng(0).integers(0, 65536, (90, 70), np.uint16)
    buffer = io.BytesIO()
    np.save(buffer, deep)
    return {
        ".png": saved(Image.fromarray(deep), "PNG"),
        ".tif": saved(Image.fromarray(deep), "TIFF"),
        ".npy": buffer.getvalue(),
        ".ppm": saved(Image.fromarray(deep), "PPM"),
    }


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy"])
def test_what_is_no_picture_of_8_bits_is_left_alone(ending: str) -> None:
    content = deep_kinds()[ending]
    assert shrunk(content) == (content, ending, "unchanged")


def test_arrays_become_npy_files() -> None:
    array = np.random.default_rng(0).normal(size=(5, 90, 70)).astype(np.float32)
    found = data.shrink(array, "a", short_side=32, quality=92)
    assert found[1:] == (".npy", "unchanged")
    np.testing.assert_array_equal(np.load(io.BytesIO(found.content)), array)


def test_bands_of_tiff_are_left_alone() -> None:
    tifffile = pytest.importorskip("tifffile")
    for shape, options in (((90, 70, 5), {}), ((3, 90, 70), {"photometric": "minisblack"})):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros(shape, np.uint8), **options)
        assert shrunk(buffer.getvalue()).how == "unchanged"


@pytest.mark.parametrize("short_side", [32, 500])  # rewritten, and copied
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_pictures_are_unreadable(short_side: int, kind: str) -> None:
    content = encode(photo(6), kind)
    with pytest.raises(data.UnreadableImageError, match=r"^a: "):
        shrunk(content[: len(content) * 2 // 3], short_side)
    with pytest.raises(data.UnreadableImageError, match=r"^a: no image"):
        shrunk(b"no image", short_side)
