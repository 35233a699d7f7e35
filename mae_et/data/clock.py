"""Which samples a step takes from the data, as a pure function of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from ..config import PretrainConfig
from ..curriculum import Curriculum, as_pair
from ..errors import check


@dataclass(frozen=True, kw_only=True)
class ReplaySpan:
    """The steps ``start <= step < stop``, all of one input size, that use images again.

    The first step takes all of its images from the data, each other step 1/ratio of them.
    """

    start: int
    """The first step of the span."""
    stop: int
    """The step after the last one."""
    ratio: int
    """Images of a step for each image that it takes from the data."""
    batches: int
    """Capacity of the buffer in global batches."""


class SampleClock:
    """The sample numbers of each step: consecutive ranges, one after the other.

    Args:
        batch_size: Images of a batch, over all processes.
        replay: Spans of steps that take fewer samples than they train on, in order.
        curriculum: The stages, whose steps may take several batches; None for one in each.

    Raises:
        ValueError: A ratio does not divide the batch.
    """

    def __init__(
        self,
        batch_size: int,
        replay: Sequence[ReplaySpan] = (),
        curriculum: Curriculum | None = None,
    ) -> None:
        self.batch_size, self.replay, self.curriculum = batch_size, tuple(replay), curriculum
        stages = curriculum.stages if curriculum else ()
        self._starts = [stage.start for stage in stages] or [0]
        self._times = [stage.times for stage in stages] or [1]
        edges = {*self._starts}
        for span in replay:
            if batch_size % span.ratio:
                raise ValueError(
                    f"data.replay.ratio must divide optim.batch_size {batch_size}, got {span.ratio}"
                )
            edges |= {span.start, span.start + 1, span.stop}
        # From each of these steps on, until the next one, a step takes as many samples.
        self._steps = sorted(edges)
        self._counts = [self._count(step) for step in self._steps]
        parts = zip(pairwise(self._steps), self._counts, strict=False)
        self._samples = [0, *accumulate((stop - start) * count for (start, stop), count in parts)]

    def _count(self, step: int) -> int:
        """Return the number of samples that a step takes."""
        span = self.span_at(step)
        ratio = span.ratio if span and step > span.start else 1
        return self.batch_size * self.batches(step) // ratio

    def batches(self, step: int) -> int:
        """Return how many batches a step trains on, those from a replay buffer included."""
        return self._times[bisect_right(self._starts, step) - 1]

    def num_batches(self, start: int, stop: int) -> int:
        """Return how many batches the steps start … stop - 1 train on."""
        if self.curriculum is None:
            return stop - start
        return self.curriculum.batches_before(stop) - self.curriculum.batches_before(start)

    @property
    def divisor(self) -> int:
        """The largest number that divides the samples of every step."""
        return math.gcd(*self._counts)

    def samples(self, step: int) -> range:
        """Return the numbers of the samples that a step takes."""
        part = bisect_right(self._steps, step) - 1
        first = self._samples[part] + (step - self._steps[part]) * self._counts[part]
        return range(first, first + self._counts[part])

    def step_of(self, sample: int) -> int:
        """Return the step that takes a sample."""
        part = bisect_right(self._samples, sample) - 1
        return self._steps[part] + (sample - self._samples[part]) // self._counts[part]

    def span_at(self, step: int) -> ReplaySpan | None:
        """Return the span of replay that a step is in, if any."""
        return next((span for span in self.replay if span.start <= step < span.stop), None)


def sample_clock(config: PretrainConfig, curriculum: Curriculum) -> SampleClock:
    """Create the clock of a run, whose steps take fewer samples at the sizes of `data.replay`.

    Raises:
        ValueError: A size has no stage, or a ratio does not divide the batch.
    """
    wanted = {as_pair(part.size): part for part in config.data.replay}
    sizes = [stage.size for stage in curriculum.stages]
    for pair, part in wanted.items():
        allowed = f"that of a stage ({', '.join(map(str, dict.fromkeys(sizes)))})"
        check(pair in map(as_pair, sizes), "data.replay.size", part.size, allowed)
    spans = []
    for pair, group in groupby(curriculum.stages, key=lambda stage: as_pair(stage.size)):
        stages = list(group)
        if pair in wanted:
            start, stop, part = stages[0].start, stages[-1].stop, wanted[pair]
            there_are = sum(stage.num_steps * stage.times for stage in stages)
            batches = min(part.batches, there_are)  # there are no more to keep
            spans.append(ReplaySpan(start=start, stop=stop, ratio=part.ratio, batches=batches))
    return SampleClock(config.optim.batch_size, spans, curriculum)


def stage_size(curriculum: Curriculum, clock: SampleClock, number: int) -> tuple[int, int]:
    """Return the (height, width) in pixels at which sample `number` is trained."""
    return as_pair(curriculum.stage_at(clock.step_of(number)).size)


def augment_progress(curriculum: Curriculum, clock: SampleClock, number: int) -> float:
    """Return how far augmentation has got at sample `number`: 0 in the first stage, 1 in the last.

    In a run of one stage it is 1.
    """
    stages = curriculum.stages
    index = stages.index(curriculum.stage_at(clock.step_of(number)))
    return index / (len(stages) - 1) if len(stages) > 1 else 1.0
