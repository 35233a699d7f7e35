"""The EfficientTrain curriculum: which input size belongs to which optimizer step.

Training is counted in optimizer steps and everything here is a pure function of the step, so a
resumed run derives its stage and nothing about it is saved.

Source: Wang et al., "EfficientTrain: Exploring Generalized Curriculum Learning for Training
Visual Backbones", ICCV 2023, Table 2 and Section 4.3 (https://arxiv.org/abs/2211.09703).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Size = int | tuple[int, int]
"""Pixels: one number for a square, or (height, width)."""

EFFICIENTTRAIN_SIZES = (160, 160, 160, 192, 224)
"""Input sizes of the paper's five equally long stages, for a full size of 224."""

EFFICIENTTRAIN_MAGNITUDES = (1, 3, 5, 7, 9)
"""RandAug magnitudes of those stages, for supervised training."""


def as_pair(size: Size) -> tuple[int, int]:
    """(height, width) of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def as_size(height: int, width: int) -> Size:
    """The inverse of `as_pair`: one number for a square."""
    return height if height == width else (height, width)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The steps ``start <= step < stop`` and the input size (pixels) they are trained at."""

    size: Size
    start: int
    stop: int

    @property
    def num_steps(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Consecutive stages that cover the optimizer steps 0 … num_steps - 1."""

    stages: tuple[Stage, ...]

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

    def stage_at(self, step: int) -> Stage:
        """The stage of an optimizer step in [0, num_steps).

        Raises:
            ValueError: the step is outside the run.
        """
        self._check(step, self.num_steps - 1)
        return self.stages[bisect_right([stage.stop for stage in self.stages], step)]

    def lr_progress(self, step: int) -> float:
        """The part of the learning-rate schedule, in [0, 1], that lies behind a step.

        In EfficientTrain every stage gets learning rate by its steps, so this is
        ``step / num_steps``.

        Raises:
            ValueError: the step is outside [0, num_steps].
        """
        self._check(step, self.num_steps)
        return step / self.num_steps

    def _check(self, step: int, last: int) -> None:
        if not 0 <= step <= last:
            raise ValueError(f"step must be in 0 … {last}, got {step}")

    @classmethod
    def constant(cls, *, full_size: Size, num_steps: int) -> Curriculum:
        """Full-size training throughout, as in MAE."""
        return cls.from_stages([(full_size, 1.0)], num_steps=num_steps)

    @classmethod
    def efficienttrain(cls, *, full_size: Size, patch_size: Size, num_steps: int) -> Curriculum:
        """The paper's five equal stages, scaled to another full size and patch size.

        Sizes keep the paper's ratios 160/224, 192/224 and 1, rounded to multiples of the patch.
        """
        for full, patch in zip(as_pair(full_size), as_pair(patch_size), strict=True):
            if full % patch:
                raise ValueError(
                    f"full_size must be a multiple of the patch size {patch_size}, got {full_size}"
                )
        sizes = [
            as_size(
                *(
                    _round_to_multiple(full * size / EFFICIENTTRAIN_SIZES[-1], patch)
                    for full, patch in zip(as_pair(full_size), as_pair(patch_size), strict=True)
                )
            )
            for size in EFFICIENTTRAIN_SIZES
        ]
        return cls.from_stages(
            [(size, 1 / len(sizes)) for size in sizes], num_steps=num_steps, patch_size=patch_size
        )

    @classmethod
    def from_stages(
        cls,
        stages: Sequence[tuple[Size, float]],
        *,
        num_steps: int,
        patch_size: Size | None = None,
    ) -> Curriculum:
        """A curriculum of one's own.

        Args:
            stages: (size, share) of each stage in order: pixels, and a positive share of all
                steps. Shares need not add up to one. The last stage's size is the full size.
            num_steps: optimizer steps of the whole run; every stage gets at least one.
            patch_size: if given, every size has to be a multiple of it.

        Raises:
            ValueError: a value is out of its range; the message names it.
        """
        if not stages:
            return cls(stages=())  # which says so
        if num_steps < len(stages):
            raise ValueError(
                f"num_steps must be at least the number of stages, {len(stages)}, got {num_steps} "
                "(optim.epochs times the images, by optim.batch_size)"
            )
        full = as_pair(stages[-1][0])
        for size, share in stages:
            _check_size(size, full=full, patch_size=patch_size)
            if not 0 < share < math.inf:
                raise ValueError(f"stage share must be positive, got {share} for size {size}")

        total = sum(share for _, share in stages)
        built: list[Stage] = []
        start, behind = 0, 0.0
        for index, (size, share) in enumerate(stages):
            behind += share
            following = len(stages) - index - 1
            stop = min(max(round(num_steps * behind / total), start + 1), num_steps - following)
            built.append(Stage(size=as_size(*as_pair(size)), start=start, stop=stop))
            start = stop
        return cls(stages=tuple(built))


def num_training_steps(*, epochs: float, num_images: int, batch_size: int) -> int:
    """Optimizer steps for a number of passes over the data: round(epochs · images / batch).

    Raises:
        ValueError: fewer than one step would result.
    """
    steps = round(epochs * num_images / batch_size)
    if steps < 1:
        raise ValueError(
            f"optim.epochs must give at least one step, got {epochs} epochs of {num_images} images "
            f"with optim.batch_size {batch_size}"
        )
    return steps


def chunks_per_micro_batch(size: Size, full_size: Size, num_chunks: int) -> int:
    """Full-size chunks that one forward pass of a smaller size takes in the same memory.

    The largest number that divides the step's chunks and has at most 5 % more pixels than a
    full-size chunk. (160 is to 224 as 1 to 1.96: two chunks.)
    """
    height, width = as_pair(size)
    full_height, full_width = as_pair(full_size)
    fit = 1.05 * full_height * full_width / (height * width)
    return max(n for n in range(1, num_chunks + 1) if num_chunks % n == 0 and n <= max(fit, 1))


def _round_to_multiple(value: float, multiple: int) -> int:
    return max(multiple, multiple * round(value / multiple))


def _check_size(size: Size, *, full: tuple[int, int], patch_size: Size | None) -> None:
    for pixels, limit in zip(as_pair(size), full, strict=True):
        if pixels < 1:
            raise ValueError(f"stage size must be positive, got {size}")
        if pixels > limit:
            raise ValueError(
                f"stage size must be at most the full size {as_size(*full)} (that of the last "
                f"stage), got {size}"
            )
    if patch_size is not None:
        for pixels, patch in zip(as_pair(size), as_pair(patch_size), strict=True):
            if pixels % patch:
                raise ValueError(
                    f"stage size must be a multiple of the patch size {patch_size}, got {size}; "
                    f"nearest: {_round_to_multiple(pixels, patch)}"
                )
