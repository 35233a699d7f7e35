"""The EfficientTrain curricula, which assign an input size to each optimizer step.

Training is counted in optimizer steps, and everything here is a pure function of the step, so that
a resumed run derives its stage and nothing about it is saved.

Sources: Wang et al., "EfficientTrain: Exploring Generalized Curriculum Learning for Training
Visual Backbones", ICCV 2023, Table 2 and Section 4.3 (https://arxiv.org/abs/2211.09703), and
"EfficientTrain++", TPAMI 2024 (https://arxiv.org/abs/2405.08768), with its code's size lists.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

Size = int | tuple[int, int]
"""Pixels: one number for a square, or (height, width)."""

EFFICIENTTRAIN_SIZES = (160, 160, 160, 192, 224)
"""Input sizes of the paper's five equally long stages, for a full size of 224."""

EFFICIENTTRAIN_MAGNITUDES = (1, 3, 5, 7, 9)
"""RandAug magnitudes of these stages, for supervised training."""

EFFICIENTTRAIN_PLUS_SIZES = {
    "swin": (96,) * 2 + (160,) * 4 + (224,) * 4,
    "deit": (96,) * 2 + (160,) * 4 + (192,) * 2 + (224,) * 2,
    "convnext": (160,) * 6 + (224,) * 4,
}
"""Input sizes of EfficientTrain++'s ten sub-stages, for a full size of 224.

The first list is the general one (Swin, CSWin, ResNet); each other one was tuned for one family.
"""

EFFICIENTTRAIN_PLUS_MAGNITUDES = (0, 9)
"""RandAug magnitudes of the first and the last sub-stage, with equal steps in between."""


def as_pair(size: Size) -> tuple[int, int]:
    """Return the (height, width) of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def as_size(height: int, width: int) -> Size:
    """Undo `as_pair`: return one number for a square."""
    return height if height == width else (height, width)


def area(size: Size) -> int:
    """Return the number of pixels of an image, the cost of a training step in EfficientTrain++."""
    return math.prod(as_pair(size))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The steps ``start <= step < stop``, which are trained at one input size (pixels)."""

    size: Size
    start: int
    stop: int
    times: int = 1
    """How many of the run's batches a step takes; more than one in `mae_et.early_batch`."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the stage."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Consecutive stages that cover the optimizer steps 0 … num_steps - 1."""

    stages: tuple[Stage, ...]
    lr_edges: tuple[float, ...] | None = None
    """Where in the learning-rate schedule, in (0, 1], each stage ends; None if the schedule follows
    the steps."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("curriculum.stages is empty; give at least one stage")

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.stages[-1].stop

    @property
    def full_size(self) -> Size:
        """The input size (pixels) of the last stage."""
        return self.stages[-1].size

    def batches_before(self, step: int) -> int:
        """Return how many of the run's batches are trained before a step in [0, num_steps]."""
        return sum(
            stage.times * max(0, min(step, stage.stop) - stage.start) for stage in self.stages
        )

    def stage_at(self, step: int) -> Stage:
        """Return the stage of an optimizer step in [0, num_steps).

        Raises:
            ValueError: The step is outside the run.
        """
        self._check(step, self.num_steps - 1)
        return self.stages[self._index(step)]

    def lr_progress(self, step: int) -> float:
        """Return the part of the learning-rate schedule, in [0, 1], that precedes a step.

        It is ``step / num_steps`` in EfficientTrain. In EfficientTrain++ it follows the cost:
        sub-stage k of ten covers k/10 … (k + 1)/10, however many steps it has.

        Raises:
            ValueError: The step is outside [0, num_steps].
        """
        self._check(step, self.num_steps)
        if self.lr_edges is None or step == self.num_steps:
            return step / self.num_steps
        index = self._index(step)
        stage, stop = self.stages[index], self.lr_edges[index]
        start = self.lr_edges[index - 1] if index else 0.0
        return start + (stop - start) * (step - stage.start) / stage.num_steps

    def _index(self, step: int) -> int:
        return bisect_right([stage.stop for stage in self.stages], step)

    def _check(self, step: int, last: int) -> None:
        if not 0 <= step <= last:
            raise ValueError(f"step must be in 0 … {last}, got {step}")

    @classmethod
    def constant(cls, *, full_size: Size, num_steps: int) -> Curriculum:
        """Train at full size throughout, as in MAE."""
        return cls.from_stages([(full_size, 1.0)], num_steps=num_steps)

    @classmethod
    def efficienttrain(cls, *, full_size: Size, patch_size: Size, num_steps: int) -> Curriculum:
        """Build the paper's five equally long stages, scaled to any full size in whole patches."""
        sizes = scaled_sizes(EFFICIENTTRAIN_SIZES, full_size, patch_size)
        return cls.from_stages(
            [(size, 1.0) for size in sizes], num_steps=num_steps, patch_size=patch_size
        )

    @classmethod
    def efficienttrain_plus(
        cls,
        *,
        full_size: Size,
        patch_size: Size,
        budget: int,
        sizes: str | Sequence[Size] = "swin",
        cost: Callable[[Size], float] = area,
    ) -> Curriculum:
        """Build EfficientTrain++, whose sub-stages have equal cost.

        Args:
            full_size: Size of the last sub-stage in pixels.
            patch_size: Pixels, of which all sizes are multiples.
            budget: Cost of the run in optimizer steps at full size. One of ten sub-stages at size
                s has (full size / s)² · budget/10 steps.
            sizes: Sizes of the sub-stages: pixels, or the name of a published list, which is scaled
                to the full size and rounded to multiples of the patch.
            cost: Cost of a step at a size, in any unit.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        if isinstance(sizes, str):
            if sizes not in EFFICIENTTRAIN_PLUS_SIZES:
                allowed = ", ".join(EFFICIENTTRAIN_PLUS_SIZES)
                raise ValueError(f"sizes must be one of {allowed}, or pixels, got {sizes!r}")
            sizes = scaled_sizes(EFFICIENTTRAIN_PLUS_SIZES[sizes], full_size, patch_size)
        return cls.from_stages(
            [(size, 1.0) for size in sizes], num_steps=budget, patch_size=patch_size, cost=cost
        )

    @classmethod
    def from_stages(
        cls,
        stages: Sequence[tuple[Size, float]],
        *,
        num_steps: int,
        patch_size: Size | None = None,
        cost: Callable[[Size], float] | None = None,
    ) -> Curriculum:
        """Build a curriculum from any stages.

        Args:
            stages: (size, share) of each stage in order: pixels, and a positive share of all steps.
                Shares need not add up to one. The last stage's size is the full size.
            num_steps: Optimizer steps of the whole run; every stage gets at least one.
            patch_size: Pixels of which every size has to be a multiple; None for any size.
            cost: Cost of a step at a size, in any unit. If it is given, shares are of the run's
                cost, `num_steps` is that cost in steps at full size (so that the run has more
                steps), and the learning-rate schedule follows the cost.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        if not stages:
            return cls(stages=())  # which raises the error
        if num_steps < len(stages):
            raise ValueError(
                f"a schedule must have at least {len(stages)} steps, one for each stage, got "
                f"num_steps {num_steps}; a larger --optim.epochs N or a smaller --optim.batch_size "
                "makes more"
            )
        full = as_pair(stages[-1][0])
        for size, share in stages:
            _check_size(size, full=full, patch_size=patch_size)
            if not 0 < share < math.inf:
                raise ValueError(f"stage share must be positive, got {share} for size {size}")

        lr_edges = None
        lengths = [share for _, share in stages]  # relative
        if cost is not None:
            edges = list(accumulate(lengths))
            lr_edges = tuple(edge / edges[-1] for edge in edges)
            lengths = [share * cost(stages[-1][0]) / cost(size) for size, share in stages]
            num_steps = max(round(num_steps * sum(lengths) / edges[-1]), len(stages))

        total = sum(lengths)
        built: list[Stage] = []
        start, passed = 0, 0.0
        for index, (size, _) in enumerate(stages):
            passed += lengths[index]
            following = len(stages) - index - 1
            stop = min(max(round(num_steps * passed / total), start + 1), num_steps - following)
            built.append(Stage(size=as_size(*as_pair(size)), start=start, stop=stop))
            start = stop
        return cls(stages=tuple(built), lr_edges=lr_edges)


def num_training_steps(*, epochs: float, num_images: int, batch_size: int) -> int:
    """Return the optimizer steps of some passes over the data: round(epochs · images / batch).

    Raises:
        ValueError: Fewer than one step would result.
    """
    steps = round(epochs * num_images / batch_size)
    if steps < 1:
        raise ValueError(
            f"optim.epochs must give at least one step, got {epochs} epochs of {num_images} images "
            f"with optim.batch_size {batch_size}"
        )
    return steps


def scaled_sizes(sizes: Sequence[int], full_size: Size, patch_size: Size) -> list[Size]:
    """Scale sizes, the last of which is the full one, to another full size in whole patches."""
    sides = list(zip(as_pair(full_size), as_pair(patch_size), strict=True))
    if any(full % patch for full, patch in sides):
        allowed = f"a multiple of the patch size {patch_size}"
        raise ValueError(f"full_size must be {allowed}, got {full_size}")
    return [
        as_size(*(_round_to_multiple(full * size / sizes[-1], patch) for full, patch in sides))
        for size in sizes
    ]


def _round_to_multiple(value: float, multiple: int) -> int:
    return max(multiple, multiple * round(value / multiple))


def _check_size(size: Size, *, full: tuple[int, int], patch_size: Size | None) -> None:
    patches = as_pair(1 if patch_size is None else patch_size)
    for pixels, limit, patch in zip(as_pair(size), full, patches, strict=True):
        if pixels < 1:
            raise ValueError(f"stage size must be positive, got {size}")
        if pixels > limit:
            raise ValueError(
                f"stage size must be at most the full size {as_size(*full)} (that of the last "
                f"stage), got {size}"
            )
        if pixels % patch:
            raise ValueError(
                f"stage size must be a multiple of the patch size {patch_size}, got {size}; "
                f"nearest: {_round_to_multiple(pixels, patch)}"
            )


def learning_rate(
    progress: float, *, peak: float, minimum: float = 0.0, warmup: float = 0.0
) -> float:
    """Compute a learning rate: linear warm-up from zero, then half a cosine, as in MAE.

    Args:
        progress: The part of the schedule that has passed, in [0, 1].
        peak: Learning rate after warm-up.
        minimum: Learning rate at the end.
        warmup: The part of the schedule that warms up, in [0, 1).
    """
    if progress < warmup:
        return peak * progress / warmup
    cosine = math.cos(math.pi * (progress - warmup) / (1 - warmup))
    return minimum + (peak - minimum) * 0.5 * (1 + cosine)
