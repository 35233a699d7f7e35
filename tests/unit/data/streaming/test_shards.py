"""Counting the rows of shards."""

from __future__ import annotations

from mae_et.data.streaming.shards import count_rows
from tests.support.images import ROWS


def test_counting_reads_no_images(shards: dict[str, str]) -> None:
    for kind, suffix in (("webdataset", "tar"), ("parquet", "parquet")):
        folder = shards[kind].partition(":")[2]
        assert count_rows([f"{folder}/{shard}.{suffix}" for shard in range(5)]) == list(ROWS)
    assert count_rows([shards["compressed"].partition(":")[2] + "/0.tar.gz"]) == [None]
