"""Data sets that are read as streams, and several data sets as one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from torch.utils.data import DataLoader

from mae_et import data
from mae_et.config.data import DataConfig
from mae_et.errors import RunStoppedError
from tests.support.images import ROWS, numbered_png
from tests.support.workers import Numbered


def open_stream(path: str, **options: Any) -> tuple[data.StreamedSamples, list[int]]:
    """A stream in batches of 12, and the numbers of the images that are held out."""
    batch_size = options.pop("batch_size", 12)
    source = DataConfig(path=path, streaming=True, eval_images=4, **options)
    train, held_out = data.open_images(source, 3, seed=1)
    assert isinstance(train, data.StreamedImages)
    samples = data.StreamedSamples(
        train, Numbered(), seed=1, clock=data.SampleClock(batch_size), shuffle_buffer=40
    )
    read = Numbered()
    return samples, [read(held_out[i], 0, 0)["image"] for i in range(len(held_out))]


def seen(
    samples: data.StreamedSamples, start: int, stop: int, *, workers: int, world: int, chunk: int
) -> dict[int, tuple[int, float]]:
    """Sample number -> (image, noise) of some steps, over all processes."""
    found: dict[int, tuple[int, float]] = {}
    for rank in range(world):
        batches = samples.batches(start, stop, chunk_size=chunk, rank=rank, world=world)
        loader: DataLoader[Any] = data.make_loader(samples, batches, workers, pin_memory=False)
        for batch in loader:
            rows = zip(
                *(batch[name].tolist() for name in ("number", "image", "noise")), strict=True
            )
            new = {number: (image, noise) for number, image, noise in rows}
            assert not new.keys() & found.keys()
            found |= new
    assert sorted(found) == list(range(12 * start, 12 * stop))
    return found


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_an_epoch_shows_every_image_once(shards: dict[str, str], kind: str) -> None:
    """140 images in batches of 12 of 2 processes with 2 workers each: three epochs."""
    samples, held_out = open_stream(shards[kind])
    assert len(samples) == 140
    assert len(set(held_out)) == 4
    found = seen(samples, 0, 35, workers=2, world=2, chunk=3)
    rest = set(range(144)) - set(held_out)
    epochs = [[found[n][0] for n in range(140 * e, 140 * (e + 1))] for e in range(3)]
    for epoch in epochs:
        assert Counter(epoch) == Counter(rest)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != sorted(epochs[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize(("workers", "world", "chunk"), [(0, 1, 12), (1, 1, 4), (4, 2, 2)])
def test_steps_depend_on_no_workers_processes_or_restarts(
    shards: dict[str, str], workers: int, world: int, chunk: int
) -> None:
    """Steps 7 to 15, also over the epoch's end, against those of an uninterrupted pass."""
    whole = seen(open_stream(shards["parquet"])[0], 0, 15, workers=0, world=1, chunk=6)
    part = seen(open_stream(shards["parquet"])[0], 7, 15, workers=workers, world=world, chunk=chunk)
    assert part == {number: whole[number] for number in part}


def test_the_kinds_hold_the_same_images(shards: dict[str, str]) -> None:
    first, second = (open_stream(shards[kind])[0] for kind in ("webdataset", "parquet"))
    found = [seen(stream, 0, 5, workers=0, world=1, chunk=12) for stream in (first, second)]
    assert found[0] == found[1]


def test_shards_that_cannot_be_counted(shards: dict[str, str]) -> None:
    """Each lane goes through its own shards, and remembers their lengths for a restart."""
    with pytest.raises(ValueError, match="num_images must be given"):
        open_stream(shards["compressed"])
    samples, held_out = open_stream(shards["compressed"], num_images=144)
    assert samples.plan.num_lanes == 4
    whole = seen(samples, 0, 40, workers=2, world=2, chunk=6)
    for lane in range(4):
        numbers = [n for n in sorted(whole) if n % 4 == lane]
        images = [whole[n][0] for n in numbers]
        lane_epoch = [
            image
            for span in samples.plan.spans(lane, 0, 0)
            for image in _numbers(span.shard, held_out)
        ]
        assert Counter(images[: len(lane_epoch)]) == Counter(lane_epoch)

    resumed, _ = open_stream(shards["compressed"], num_images=144)
    resumed.load_state_dict(json.loads(json.dumps(samples.state_dict())))
    assert seen(resumed, 31, 40, workers=0, world=1, chunk=12) == {
        number: whole[number] for number in range(12 * 31, 12 * 40)
    }


def _numbers(shard: int, held_out: list[int]) -> set[int]:
    first = sum(ROWS[:shard])
    return set(range(first, first + ROWS[shard])) - set(held_out)


def test_a_shard_that_has_shrunk_stops_the_run(shards: dict[str, str]) -> None:
    samples, _ = open_stream(shards["parquet"])
    samples.plan.lengths[0] = 50
    with pytest.raises(RunStoppedError, match=r"shard 0 .* fewer than were counted"):
        seen(samples, 0, 20, workers=0, world=1, chunk=12)


@pytest.mark.parametrize("chunk", [1, 12])
def test_unreadable_images_are_replaced(tmp_path: Path, chunk: int) -> None:
    cells = [
        {"bytes": b"no image" if n % 5 == 4 else numbered_png(n), "path": None} for n in range(60)
    ]
    datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image()})
    ).to_parquet(tmp_path / "train.parquet")
    samples, _ = open_stream(f"parquet:{tmp_path}")
    batches = samples.batches(0, 14, chunk_size=chunk, rank=0, world=1)
    bad: set[tuple[str, str]] = set()
    for batch in data.make_loader(samples, batches, 0, pin_memory=False):
        assert len(batch["image"]) == chunk
        assert all(image % 5 < 4 for image in batch["image"].tolist())
        bad |= set(batch["unreadable"])
    assert bad == {(f"train.parquet row {row}", "no image") for row in range(4, 60, 5)}
