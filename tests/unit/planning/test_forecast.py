"""What a run will take, from measured steps."""

from __future__ import annotations

import pytest

from mae_et.curriculum import Size
from mae_et.planning import forecast
from mae_et.planning.measure import StepTime


def test_which_of_device_and_loader_is_the_limit() -> None:
    stages = [
        forecast.StagePlan(
            size=size,
            grid=(1, 1),
            visible=1,
            patches=2,
            epochs=1,
            steps=steps,
            micro_batch=8,
            accumulation=1,
            gflops=1,
            cost=0.5,
        )
        for size, steps in ((96, 3000), (160, 1000))
    ]
    plan = forecast.Plan(
        num_images=100,
        batch_size=64,
        processes=1,
        stages=stages,
        epochs=2,
        steps=4000,
        exaflops=1,
        budget=3125,
        speedup=1,
        mae_size=224,
        mae_speedup=1,
    )
    times: dict[Size, StepTime] = {
        96: StepTime(seconds=0.8, waited=0.3),
        160: StepTime(seconds=1.2, waited=0.1),
    }
    timed = forecast.with_times(plan, times, num_workers=8, price_per_hour=2)
    assert [stage.limit for stage in timed.stages] == ["loader", "device"]
    assert [stage.hours for stage in timed.stages] == pytest.approx([2400 / 3600, 1200 / 3600])
    assert [stage.time for stage in timed.stages] == pytest.approx([2 / 3, 1 / 3])
    assert [stage.images_per_s for stage in timed.stages] == pytest.approx([128, 64 / 1.1])
    assert (timed.hours, timed.price) == pytest.approx((1, 2))
    # 3125 epochs of 100 images are 4882.8 steps of 64, so 4883
    assert timed.time_speedup == pytest.approx(4883 * 1.2 / 3600)
    serial = forecast.with_times(plan, times, num_workers=0, price_per_hour=None)
    assert [stage.limit for stage in serial.stages] == ["device", "device"]
