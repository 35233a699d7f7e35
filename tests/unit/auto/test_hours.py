"""What fits into memory and into hours, with devices and clocks that are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mae_et.auto import hours
from mae_et.auto.hours import Speed, epochs_for, intervals, largest_micro_batch
from mae_et.build import build_curriculum, build_model_on_meta
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.curriculum import Size
from mae_et.planning.measure import StepTime
from tests.support.arguments import tiny


def run(**optim: Any) -> PretrainConfig:
    """A tiny model of 28 pixels under EfficientTrain++."""
    options = {
        "curriculum.name": "efficienttrain_plus",
        "curriculum.stages": "[]",
        "curriculum.cost": "flops",
        "model.image_size": 28,
        "optim.warmup_epochs": 0,
        **{f"optim.{name}": value for name, value in optim.items()},
    }
    parser = config_parser(PretrainConfig, "pretrain", "")
    return parse(parser, PretrainConfig, tiny("unused", "unused", **options), "mae_et")[0]


def speed(config: PretrainConfig, seconds: float = 0.01) -> Speed:
    """Steps of `seconds` at full size, and less at others by their pixels."""
    sizes = config.curriculum.stage_sizes(full_size=28, multiple=4)
    steps: dict[Size, StepTime] = {
        size: StepTime(seconds=seconds * (size / 28) ** 2, waited=0.001 * seconds)
        for size in sizes
        if isinstance(size, int)
    }
    return Speed(
        images=dict.fromkeys(steps, config.optim.batch_size), steps=steps, evaluation=0.5, start=2.0
    )


@pytest.mark.parametrize("seconds", [2.0, 60.0, 3600.0])
def test_the_epochs_that_fit(seconds: float) -> None:
    config = run(batch_size=16)
    model, rate = build_model_on_meta(config), speed(config)
    epochs = epochs_for(config, model, 1000, rate, seconds)
    fitted = replace(config, optim=replace(config.optim, epochs=epochs))
    curriculum = build_curriculum(fitted, model, 1000)
    assert rate.seconds(curriculum) == pytest.approx(seconds, rel=0.02)


def test_hours_too_few_say_how_many_are_needed() -> None:
    config = run(batch_size=16)
    model, rate = build_model_on_meta(config), speed(config, 3.0)
    with pytest.raises(ValueError, match=r"--hours must be at least 0\.01 \(0\.6 minutes\) at"):
        epochs_for(config, model, 1000, rate, 5.0)


def test_intervals_are_those_of_time() -> None:
    config = run(batch_size=16, epochs=100, warmup_epochs=0)
    model, rate = build_model_on_meta(config), speed(config, 1.0)
    curriculum = build_curriculum(config, model, 1000)
    seconds = rate.seconds(curriculum)
    found = intervals(curriculum, rate, seconds)
    per_step = seconds / curriculum.num_steps
    assert found["run.log_every"] == pytest.approx(10 / per_step, abs=1)
    assert found["run.checkpoint_every"] == pytest.approx(900 / per_step, abs=1)
    assert found["run.eval_every"] == curriculum.num_steps // 10
    costly = replace(rate, evaluation=seconds / 20)
    assert intervals(curriculum, costly, seconds)["run.eval_every"] is None


@pytest.mark.parametrize(("fitting", "expected"), [(1000, 16), (5, 4), (1, 1)])
def test_the_largest_micro_batch_is_found_by_halving(
    fitting: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limited(fitting, monkeypatch)
    assert largest_micro_batch(run(batch_size=16)) == expected
    assert tried == [16 >> n for n in range(len(tried))]


def test_a_model_that_does_not_fit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(0, monkeypatch)
    with pytest.raises(ValueError, match=r"model\.encoder must fit on this device, got no room"):
        largest_micro_batch(run(batch_size=16))


def limited(fitting: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the device run out of memory above a number of images; returns those that are tried."""
    tried = []

    def attempt(size: int, **options: Any) -> int:
        tried.append(size)
        if size > fitting:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return step(size, **options)

    step = hours._try
    monkeypatch.setattr(hours, "_try", attempt)
    return tried
