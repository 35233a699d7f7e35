"""Several data sets as one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mae_et import data
from mae_et.config.data import DataConfig, SourceConfig
from tests.support.workers import Numbered


def test_a_weighted_mixture(clothes: str, image_folder: Path) -> None:
    """Three times as many samples of the one as of the other, and each image equally often."""
    parts = [
        SourceConfig(path=clothes, weight=3, image_column="image"),
        SourceConfig(path=f"imagefolder:{image_folder}", weight=1),
    ]
    source = DataConfig(sources=parts, eval_images=8)
    train, held_out = data.open_images(source, 1, seed=0)
    assert not isinstance(train, data.StreamedImages)
    assert (len(train), len(held_out)) == (80 + 78, 6 + 2)
    stream = data.Samples(train, Numbered(), seed=0)
    epochs = [[stream.image_index(158 * e + k) for k in range(158)] for e in range(40)]
    for epoch in epochs:
        assert sum(row < 80 for row in epoch) == 118  # three quarters of 158, rounded
    times = Counter(row for epoch in epochs for row in epoch)
    assert {times[row] for row in range(80)} == {59}
    assert {times[row] for row in range(80, 158)} <= {20, 21}
    names = {train.name(row) for row in range(158)}
    assert len(names) == 158


def test_a_weight_is_worth_a_sample_of_an_epoch(clothes: str) -> None:
    parts = [SourceConfig(path=clothes, weight=weight) for weight in (1, 0.001)]
    with pytest.raises(ValueError, match=r"data\.sources must be weights that give each at least"):
        data.open_images(DataConfig(sources=parts), 1, seed=0)


def test_a_mixture_without_weights_shows_every_image_once(clothes: str) -> None:
    parts = [
        SourceConfig(path=clothes),
        SourceConfig(path=clothes, split="test", eval_split="train"),
    ]
    train, _ = data.open_images(DataConfig(sources=parts), 1, seed=0)
    assert not isinstance(train, data.StreamedImages)
    stream = data.Samples(train, Numbered(), seed=0)
    rows = [stream.image_index(k) for k in range(110, 220)]
    assert sorted(rows) == list(range(110))
    assert rows != sorted(rows)
