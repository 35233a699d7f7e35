"""The sample stream and what it is made from."""

from __future__ import annotations

import random
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from mae_et import data
from mae_et.data.mixture import Mixture
from mae_et.errors import ProcessStoppedError


@pytest.fixture
def stream(clothes: str) -> data.Samples:
    train = data.load_splits(clothes)["train"]
    return data.Samples(
        data.ImageTable(train, None, 1), data.PretrainTransform((16, 16), 16), seed=3
    )


def test_each_epoch_shows_each_image_once_in_its_own_order(stream: data.Samples) -> None:
    epochs = [[stream.image_index(80 * epoch + k) for k in range(80)] for epoch in range(3)]
    assert all(sorted(order) == list(range(80)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_samples_do_not_depend_on_workers_or_processes(
    stream: data.Samples, workers: int, world: int
) -> None:
    """Steps 4 to 7 of 16 images, over an epoch's end, against the samples one by one."""
    expected = [stream[number] for number in range(4 * 16, 7 * 16)]
    images: dict[int, torch.Tensor] = {}
    noise: dict[int, torch.Tensor] = {}
    for rank in range(world):
        clock = data.SampleClock(16)
        batches = data.StepBatches(4, 7, clock=clock, chunk_size=4, rank=rank, world=world)
        loader = data.make_loader(stream, batches, workers, pin_memory=False)
        for numbers, chunk in zip(batches, loader, strict=True):
            images |= dict(zip(numbers, chunk["image"], strict=True))
            noise |= dict(zip(numbers, chunk["noise"], strict=True))
    assert sorted(images) == list(range(64, 112))
    for number, sample in zip(range(64, 112), expected, strict=True):
        assert torch.equal(images[number], sample["image"])
        assert torch.equal(noise[number], sample["noise"])


@pytest.mark.parametrize(("world", "chunk_size"), [(1, 4), (2, 4), (4, 2), (1, 12)])
def test_a_step_takes_its_samples_over_all_processes(world: int, chunk_size: int) -> None:
    batches = [
        data.StepBatches(
            5, 7, clock=data.SampleClock(24), chunk_size=chunk_size, rank=rank, world=world
        )
        for rank in range(world)
    ]
    assert all(len(list(b)) == len(b) == 2 * b.chunks_per_batch for b in batches)
    first_step = [n for b in batches for chunk in list(b)[: b.chunks_per_batch] for n in chunk]
    assert sorted(first_step) == list(range(5 * 24, 6 * 24))


def test_shards_cover_every_sample_once() -> None:
    shards = [
        n for rank in range(3) for batch in data.process_batches(32, 5, rank, 3) for n in batch
    ]
    assert sorted(shards) == list(range(32))


class _Numbers:
    """Images that are their rows; the first ones are bad."""

    def __init__(self, number: int, bad: int) -> None:
        self.number, self.bad = number, bad

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Any:
        if index < self.bad:
            raise data.UnreadableImageError(str(index), "bad")
        return index


def row_and_draw(image: Any, index: int, number: int) -> dict[str, Any]:
    return {"row": index, "draw": torch.rand(())}


def test_a_run_of_bad_rows_shows_no_other_row_many_times() -> None:
    images: Any = _Numbers(100, bad=30)
    stream = data.Samples(images, row_and_draw, seed=0)
    samples = [stream[number] for number in range(2000)]
    counts = np.bincount([sample["row"] for sample in samples], minlength=100)
    assert counts[:30].sum() == 0
    assert counts[30:].sum() == 2000
    assert counts[30:].min() >= 20  # its own, and some in place of others: 8.6 on average
    assert counts[30:].max() <= 40
    # What replaces an image depends on the sample alone, and its random draws on no replacement.
    whole: Any = _Numbers(100, bad=0)
    others = data.Samples(whole, row_and_draw, seed=0)
    fresh = data.Samples(images, row_and_draw, seed=0)
    for number in reversed(range(1900, 2000)):
        assert fresh[number]["row"] == samples[number]["row"]
        assert torch.equal(samples[number]["draw"], others[number]["draw"])
        assert not others[number]["unreadable"]


class _Draws:
    """Draws from all generators, whatever it says."""

    def __init__(self, torch_alone: bool) -> None:
        self.torch_alone = torch_alone

    def __call__(self, image: Any, index: int, number: int) -> dict[str, Any]:
        others = torch.tensor([random.random(), np.random.random(), *image["drawn"]])
        return {"torch": torch.rand(3), "others": others}


class _Cells(data.ImageTable):
    """A table whose images are the rows themselves."""

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


@pytest.mark.parametrize("torch_alone", [True, False])
@pytest.mark.parametrize("has_user_code", [True, False])
def test_generators_are_seeded_unless_nobody_draws_from_them(
    torch_alone: bool, has_user_code: bool
) -> None:
    """The transform tells what it draws from; a function of the user's may draw from all."""
    rows = datasets.Dataset.from_dict(
        {"image": [None] * 4}, features=datasets.Features({"image": datasets.Image()})
    )
    cells = _Cells(rows, None, 3)
    cells.rows = datasets.Dataset.from_dict({"drawn": [[0.0]] * 4})
    if has_user_code:
        cells.rows.set_transform(
            lambda batch: {"drawn": [[random.random()] for _ in batch["drawn"]]}
        )
    for images in (cells, Mixture([cells])):
        stream = data.Samples(images, _Draws(torch_alone), seed=0)
        first, again = stream[3], stream[3]
        assert torch.equal(first["torch"], again["torch"])
        is_seeded = has_user_code or not torch_alone
        assert torch.equal(first["others"], again["others"]) == is_seeded
    plain = data.Samples(cells, _Draws(False), seed=0)[3]
    assert torch.equal(first["torch"], plain["torch"])


def test_none_is_readable() -> None:
    images: Any = _Numbers(3, bad=3)
    with pytest.raises(ProcessStoppedError, match=r"none readable; first: \d: bad"):
        data.Samples(images, row_and_draw, seed=0)[0]


def test_batch_that_the_processes_do_not_divide() -> None:
    from mae_et.data.samples import split_batch

    with pytest.raises(ValueError, match=r"optim.batch_size must be a multiple of the 3 processes"):
        split_batch(16, None, world=3)
