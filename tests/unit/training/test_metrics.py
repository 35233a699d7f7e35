"""What a run measures of itself."""

from __future__ import annotations

import pytest

from mae_et.training.metrics import StageWait


def test_the_share_of_waiting_is_that_of_a_stage() -> None:
    waiting = StageWait()
    window = {"size": 96, "seconds": 2.0, "data_wait": 0.5}
    first = {"size": 96, "seconds": 60.0, "data_wait": 1.0}
    shares = [waiting.add(metrics) for metrics in (first, *[window] * 4)]
    assert shares == [0.0] * 5
    assert waiting.add({"size": 96, "seconds": 2.0, "data_wait": 0.0}) == pytest.approx(0.4)
    assert waiting.add({**window, "size": 160}) == 0.0
