"""Images to probe: which they are, and what is held of them."""

from __future__ import annotations

import pytest

from mae_et.config.data import DataConfig
from mae_et.config.training import EvalConfig
from mae_et.evaluation.features import load_probe_images


def test_probes_make_no_copy_of_a_stream(shards: dict[str, str]) -> None:
    source = DataConfig(path=shards["parquet"], streaming=True)
    with pytest.raises(ValueError, match=r"eval\.path must be given with data\.streaming"):
        load_probe_images(EvalConfig(), source, size=(8, 8), in_chans=3, chunk_size=4, seed=0)


def test_test_images_stay_unseen(clothes: str) -> None:
    """There are 80 training images and 30 to test."""
    images = [
        load_probe_images(
            EvalConfig(held_out=held_out),
            DataConfig(path=clothes),
            size=(16, 16),
            in_chans=1,
            chunk_size=4,
            seed=0,
        )
        for held_out in (False, True)
    ]
    assert [(len(one.train), len(one.test)) for one in images] == [(80, 30), (72, 8)]
