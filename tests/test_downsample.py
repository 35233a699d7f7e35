"""Images of small stages that shrink in the loader, and the advice to let them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mae_et import data
from mae_et.__main__ import main
from mae_et.curriculum import Curriculum
from mae_et.data.clock import stage_size
from mae_et.lowfreq import low_frequency_crop
from mae_et.runs import Run
from mae_et.training.metrics import Meter, StageWait

from .conftest import tiny
from .test_data import table
from .test_encoded import picture

STAGES = Curriculum.from_stages([(8, 1), (12, 1), (16, 1)], num_steps=6)


def stream(clothes: str, **options: Any) -> data.Samples:
    images = data.ImageTable(data.load_splits(clothes)["train"], None, 1)
    return data.Samples(images, data.PretrainTransform((16, 16), 16, **options), seed=3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_chunk_has_the_size_of_its_stage(clothes: str, workers: int) -> None:
    """Steps 1 to 4 of 16 images: sizes 8, 12, 12 and 16, whatever the number of workers."""
    small = stream(clothes, size_at=partial(stage_size, STAGES, data.SampleClock(16)))
    batches = data.StepBatches(1, 5, clock=data.SampleClock(16), chunk_size=8, rank=0, world=1)
    loader = data.make_loader(small, batches, workers, pin_memory=False)
    sizes = []
    for numbers, chunk in zip(batches, loader, strict=True):
        sizes.append(chunk["image"].shape[-1])
        for number, image, noise in zip(numbers, chunk["image"], chunk["noise"], strict=True):
            expected = small[number]
            assert torch.equal(image, expected["image"])
            assert torch.equal(noise, expected["noise"])
    assert sizes == [8, 8, 12, 12, 12, 12, 16, 16]


def test_the_same_boxes_flips_and_masks_at_every_size(clothes: str) -> None:
    full, small = stream(clothes), stream(clothes, size_at=lambda number: (12, 12))
    for number in range(40):
        expected, sample = full[number], small[number]
        assert torch.equal(sample["noise"], expected["noise"])
        exact = low_frequency_crop(expected["image"].float(), 12)
        mirrored = exact.flip(-1)
        distance = (sample["image"] - exact).square().mean()
        contrast = exact.var()
        assert distance < 0.2 * contrast
        if (exact - mirrored).square().mean() > contrast:  # not nearly symmetric
            assert distance < (sample["image"] - mirrored).square().mean()


def test_deviation_from_the_exact_crop_on_a_smooth_picture() -> None:
    """A tenth of the contrast. Half of it is a shift: the exact crop keeps the first pixel where it
    is, a resize keeps the centre, (224 / 96 - 1) / 2 full-size pixels further.
    """
    images = table([picture(96, 96).resize((480, 480))])
    samples = [
        data.Samples(images, data.PretrainTransform((size, size), 4, (1.0, 1.0)), seed=0)[0]
        for size in (224, 96)
    ]
    exact = low_frequency_crop(samples[0]["image"].float(), 96)
    deviation = (samples[1]["image"] - exact).square().mean().sqrt() / exact.std()
    assert deviation < 0.13


def test_a_run_without_small_stages_is_the_same(clothes: str, tmp_path: Path) -> None:
    losses = []
    for downsample in ("device", "loader"):
        arguments = tiny(
            clothes,
            tmp_path / downsample,
            curriculum__name="constant",
            curriculum__stages="[]",
            optim__epochs=1,
            optim__warmup_epochs=0,
            data__downsample=downsample,
        )
        assert main(["pretrain", *arguments]) == 0
        metrics = Run(tmp_path / downsample).read_metrics()
        losses.append([line["loss"] for line in metrics if "loss" in line])
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]


def test_a_run_goes_through_its_stages(clothes: str, tmp_path: Path) -> None:
    losses = {}
    for downsample in ("device", "loader"):
        run = tmp_path / downsample
        assert main(["pretrain", *tiny(clothes, run, data__downsample=downsample)]) == 0
        metrics = Run(run).read_metrics()
        sizes = [line["size"] for line in metrics if "size" in line]
        assert sizes == [8] * 10 + [12] * 5 + [16] * 5
        losses[downsample] = [line["eval_loss"] for line in metrics if "eval_loss" in line][-1]
    assert losses["loader"] == pytest.approx(losses["device"], rel=0.05)
    assert losses["loader"] != losses["device"]


def test_bad_downsample(clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *tiny(clothes, tmp_path / "run", data__downsample="gpu")]) == 2
    (line,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("error:")]
    assert "data.downsample" in line
    assert "device" in line
    assert "loader" in line


def test_the_share_of_waiting_is_that_of_a_stage() -> None:
    waiting = StageWait()
    window = {"size": 96, "seconds": 2.0, "data_wait": 0.5}
    first = {"size": 96, "seconds": 60.0, "data_wait": 1.0}
    shares = [waiting.add(metrics) for metrics in (first, *[window] * 4)]
    assert shares == [0.0] * 5
    assert waiting.add({"size": 96, "seconds": 2.0, "data_wait": 0.0}) == pytest.approx(0.4)
    assert waiting.add({**window, "size": 160}) == 0.0


@pytest.mark.parametrize(("downsample", "times"), [("device", 1), ("loader", 0)])
def test_waiting_brings_advice_once(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    downsample: str,
    times: int,
) -> None:
    read = Meter.read
    monkeypatch.setattr(Meter, "read", lambda meter: {**read(meter), "data_wait": 0.5})
    arguments = tiny(clothes, tmp_path / "run", data__downsample=downsample, run__eval_every="null")
    assert main(["pretrain", *arguments]) == 0
    advice = [r for r in caplog.messages if "waiting for images" in r]
    assert len(advice) == times
    assert all(
        "50 % of the time at size 8 " in line and "data.downsample loader" in line
        for line in advice
    )
