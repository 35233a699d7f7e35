"""The values of channels, and a warning where `data.mean` and `data.std` can't be theirs."""

from __future__ import annotations

import io
import logging
import re
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from mae_et import data
from mae_et.data import channel_values, stats, warn_of_range, warn_of_size

NOISE = np.random.default_rng(0).random((12, 3, 8, 8))


def images(values: Any) -> data.ImageTable:
    """Images (N, 3, H, W) as arrays."""
    kind = datasets.Array3D(values.shape[1:], str(values.dtype))
    features = datasets.Features({"x": kind})
    rows = datasets.Dataset.from_dict({"x": list(values)}, features=features)
    return data.ImageTable(rows, None, 3)


@pytest.mark.parametrize("at_a_time", [stats.PIXELS_AT_A_TIME, 7])
def test_values_of_channels(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "PIXELS_AT_A_TIME", at_a_time)
    scaled = np.round(NOISE * np.array([1, 0.5, 0.25])[:, None, None] * 4095).astype(np.uint16)
    found = channel_values(images(scaled), range(12))
    expected = (scaled / 65535).transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(found.mean, expected.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.std, expected.std(1), rtol=1e-6)
    np.testing.assert_allclose(found.low, expected.min(1), rtol=1e-6)
    np.testing.assert_allclose(found.high, expected.max(1), rtol=1e-6)
    assert found.widest == pytest.approx(np.ptp(expected[0]), rel=1e-6)
    assert str(found) == f"{expected[0].min():.4g} to {expected[0].max():.4g}"


@pytest.mark.parametrize(
    ("values", "mean", "std", "warning"),
    [
        (np.round(NOISE * 255).astype(np.uint8), 0.5, 0.3, None),
        (np.round(NOISE * 65535).astype(np.uint16), 0.45, 0.22, None),
        (np.round(NOISE * 4095).astype(np.uint16), 0.45, 0.22, "0.0.*, less than a tenth"),
        (np.round(NOISE * 4095).astype(np.uint16), 0.03, 0.02, None),
        (NOISE.astype(np.float32), 0.5, 0.3, None),
        (NOISE.astype(np.float32) / 200, 0.45, 0.22, "to 0.00.*, less than a tenth of their scale"),
        (np.round(NOISE * 65535).astype(np.int32), 0.45, 0.22, "to 6.55e.*, which data.mean"),
        (np.round(NOISE * 65535).astype(np.int32), 32767, 18918, None),
        (NOISE.astype(np.float32) * 255, 0.45, 0.22, "to 254.9, which data.mean"),
        (np.round(NOISE * 20).astype(np.uint8), 0.45, 0.22, "to 0.07843, less than a tenth"),
        (np.round(NOISE * 255).astype(np.uint8), 127.5, 76.5, "mean -1.7 and deviation 0.003[78]"),
        (np.round(NOISE * 255).astype(np.uint8), 0.5, 76.5, "mean .* deviation 0.003[78]"),
        (np.round(NOISE * 255).astype(np.uint8), 0.9, 0.1, "mean -3.9 and deviation 2.9"),
        (np.round(NOISE * 9).astype(np.uint8), 0.45, 0.22, "0.03529, less than a tenth"),
        (np.full((3, 3, 8, 8), 255, np.uint8), 0.9, 0.25, "1 to 1, less than a tenth"),
        (np.round(245 + NOISE * 10).astype(np.uint8), 0.45, 0.22, "less than a tenth"),
        (np.where(NOISE < 0.05, 0, 255).astype(np.uint8), 0.406, 0.225, None),  # black on white
        (np.where(NOISE < 0.05, 255, 0).astype(np.uint8), 0.485, 0.229, None),
        (np.full_like(NOISE, np.nan), 0.5, 0.3, None),  # which is an error elsewhere
    ],
)
def test_warning(
    values: Any, mean: float, std: float, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_range(images(values), [mean] * 3, [std] * 3)
    assert len(caplog.messages) == (warning is not None)
    for message in caplog.messages:
        assert "\n" not in message
    if warning is not None:
        assert "mae_et stats" in caplog.text
        assert re.search(f"the values of the images go from .*{warning}", caplog.text)


@pytest.mark.parametrize(
    ("sizes", "size", "warning"),
    [
        ([(64, 64)] * 3, 224, "3 of 3 images looked at are smaller than model.image_size 224"),
        ([(1, 2), (28, 28), (27, 90)], 28, "2 of 3 .* 28, .*; such as 1 x 2 pixels"),
        ([(1, 2), (28, 28)], 28, None),
        ([(30, 60)] * 2, (24, 48), None),
        ([(60, 30)] * 2, (24, 48), "2 of 2 .*such as 60 x 30 pixels"),
        ([None, (64, 64)], 65, "1 of 1 "),
        ([None, None], 65, None),
    ],
)
def test_images_that_are_enlarged(
    sizes: list[tuple[int, int] | None],
    size: int | tuple[int, int],
    warning: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cells: list[Any] = []
    for sides in sizes:
        buffer = io.BytesIO(b"nothing")
        if sides is not None:
            Image.new("L", sides[::-1]).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features(image=datasets.Image())
    rows = datasets.Dataset.from_dict({"image": cells}, features=features)
    warn_of_size(data.ImageTable(rows, None, 1), size)
    assert len(caplog.messages) == (warning is not None)
    if warning is not None:
        assert re.match(warning, caplog.messages[0])
