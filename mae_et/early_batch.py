"""Early large batch: steps of small stages take several of the run's batches (EfficientTrain++).

A small image is little work, so with many GPUs a step of a small stage is over before the gradients
have been exchanged. Taken `times` as large, it fills the device, and there are fewer exchanges. The
run sees the same samples in the same order, and the learning rate follows them as before. What a
step takes stays a pure function of the step.

Source: EfficientTrain++ (https://arxiv.org/abs/2405.08768) names the technique. Its text was not at
hand here, and its released code does not have it, so the rules below are ours: the learning rate
grows by the square root of the batch, as the noise of Adam's gradients asks for
(https://arxiv.org/abs/2205.10287).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from .curriculum import Curriculum, Size, Stage, as_pair
from .errors import check

Scaling = Literal["sqrt", "linear", "none"]
"""How the learning rate grows with the batch."""


def enlarge_batches(planned: Curriculum, times: Mapping[Size, int]) -> Curriculum:
    """Let steps at some sizes take several of the run's batches.

    A stage whose batches do not divide leaves the rest to the next one.

    Args:
        planned: The curriculum, all of whose steps take one batch.
        times: Size -> batches of a step.

    Raises:
        ValueError: A size has no stage or is the full one, or a stage is shorter than a step.
    """
    wanted = {as_pair(size): number for size, number in times.items()}
    small = [
        stage.size for stage in planned.stages if as_pair(stage.size) != as_pair(planned.full_size)
    ]
    for size in times:
        allowed = f"that of a stage below full size ({', '.join(map(str, dict.fromkeys(small)))})"
        if not small:
            allowed = "left out in a run that has no stage below full size"
        check(as_pair(size) in map(as_pair, small), "optim.early_batch.size", size, allowed)
    if not times:
        return planned
    stages: list[Stage] = []
    edges: list[float] = []
    taken = start = 0
    for stage in planned.stages:
        number, left = wanted.get(as_pair(stage.size), 1), stage.stop - taken
        allowed = (
            f"at most the {left} batches of a stage at size {stage.size}; a larger "
            "--optim.epochs N or a smaller --optim.batch_size makes more"
        )
        check(number <= left, "optim.early_batch.times", number, allowed)
        stop = start + left // number
        taken += number * (stop - start)
        stages.append(replace(stage, start=start, stop=stop, times=number))
        edges.append(planned.lr_progress(taken))
        start = stop
    return Curriculum(stages=tuple(stages), lr_edges=tuple(edges))


def rate_factor(times: int, scaling: Scaling) -> float:
    """Return by how much the learning rate of a step grows that takes `times` batches."""
    return {"sqrt": math.sqrt(times), "linear": float(times), "none": 1.0}[scaling]
