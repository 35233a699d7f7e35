"""Which samples a step takes, and what else follows from the step."""

from __future__ import annotations

from mae_et.curriculum import Curriculum
from mae_et.data.clock import SampleClock, augment_progress


def test_progress_is_that_of_the_stage() -> None:
    curriculum = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=10)
    found = [augment_progress(curriculum, SampleClock(4), number) for number in range(0, 40, 8)]
    assert found == [0, 0.25, 0.5, 0.75, 1]
    assert (
        augment_progress(Curriculum.constant(full_size=224, num_steps=10), SampleClock(4), 0) == 1
    )
