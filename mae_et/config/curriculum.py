"""The section `curriculum` of a recipe, and the curriculum that it describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..curriculum import EFFICIENTTRAIN_PLUS_SIZES, Curriculum, Size, area, as_pair
from ..errors import check


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A stage in a list: its input size in pixels, and its share of all steps or of the cost."""

    size: Size
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """The input sizes of the run.

    Args:
        name: How the input size grows: efficienttrain (the paper's five stages, scaled to the full
            size), efficienttrain_plus (sub-stages of equal cost), constant (full size throughout),
            or stages (those of curriculum.stages).
        stages: List of {size: pixels, share: part of all steps}, used with name: stages.
        sizes: Sizes of the sub-stages of efficienttrain_plus: a published list (swin, deit or
            convnext; null for swin, the general one), scaled to the full size, or your own list of
            pixels.
        cost: What a step costs at a size, area (its pixels) or flops (those of this model). The run
            then costs what optim.epochs cost at full size, so it has more passes; stages share that
            cost, and the learning rate follows it. null for area with efficienttrain_plus, and
            otherwise for stages that share steps.
        nyquist: What the crop does with the Nyquist frequency; see `mae_et.low_frequency_crop`.
    """

    name: Literal["efficienttrain", "efficienttrain_plus", "constant", "stages"] = "efficienttrain"
    stages: list[StageConfig] = field(default_factory=list)
    sizes: Literal["swin", "deit", "convnext"] | list[Size] | None = None
    cost: Literal["area", "flops"] | None = None
    nyquist: Literal["paper", "symmetric"] = "paper"

    def __post_init__(self) -> None:
        own = self.name == "stages"
        allowed = "a list of {size, share}" if own else "empty unless curriculum.name is 'stages'"
        check(own == bool(self.stages), "curriculum.stages", self.stages, allowed)
        plus = self.name == "efficienttrain_plus"
        allowed = "null unless curriculum.name is 'efficienttrain_plus'"
        check(self.sizes is None or plus, "curriculum.sizes", self.sizes, allowed)
        check(self.sizes != [], "curriculum.sizes", self.sizes, "a name or a list of pixels")
        allowed = "null unless curriculum.name is 'efficienttrain_plus' or 'stages'"
        check(self.cost is None or plus or own, "curriculum.cost", self.cost, allowed)

    @property
    def num_stages(self) -> int:
        """The number of stages."""
        if isinstance(self.sizes, list):
            return len(self.sizes)
        plus = len(EFFICIENTTRAIN_PLUS_SIZES[self.sizes or "swin"])
        numbers = {"constant": 1, "efficienttrain": 5, "efficienttrain_plus": plus}
        return numbers.get(self.name, len(self.stages))

    @property
    def own_sizes(self) -> list[Size]:
        """The sizes that the user lists, of which none is rounded."""
        return self.sizes if isinstance(self.sizes, list) else [part.size for part in self.stages]

    def stage_sizes(self, *, full_size: Size, multiple: Size) -> list[Size]:
        """Return the input size of each stage, which does not depend on the number of steps.

        Args:
            full_size: Size of the last stage in pixels.
            multiple: EfficientTrain's sizes are rounded to multiples of these pixels.

        Raises:
            ValueError: A size is not allowed.
        """
        shortest = self.build(
            full_size=full_size, multiple=multiple, num_steps=self.num_stages, flops=area
        )
        return [stage.size for stage in shortest.stages]

    def build(
        self,
        *,
        full_size: Size,
        multiple: Size,
        num_steps: int,
        flops: Callable[[Size], float] | None = None,
    ) -> Curriculum:
        """Build the curriculum of a run.

        Args:
            full_size: Size of the last stage in pixels.
            multiple: EfficientTrain's sizes are rounded to multiples of these pixels.
            num_steps: Optimizer steps of optim.epochs passes; with a cost, the run has as many as
                cost the same.
            flops: Cost of a training step at a size, in any unit, for curriculum.cost flops.

        Raises:
            ValueError: The stages do not fit the run.
        """
        cost = flops if self.cost == "flops" else area
        if self.name == "constant":
            return Curriculum.constant(full_size=full_size, num_steps=num_steps)
        if self.name == "efficienttrain":
            return Curriculum.efficienttrain(
                full_size=full_size, patch_size=multiple, num_steps=num_steps
            )
        assert cost is not None
        if self.name == "efficienttrain_plus":
            name = "curriculum.sizes"
            curriculum = Curriculum.efficienttrain_plus(
                full_size=full_size,
                patch_size=multiple,
                budget=num_steps,
                sizes="swin" if self.sizes is None else self.sizes,
                cost=cost,
            )
        else:
            name = "curriculum.stages"
            curriculum = Curriculum.from_stages(
                [(stage.size, stage.share) for stage in self.stages],
                num_steps=num_steps,
                cost=cost if self.cost else None,
            )
        if as_pair(curriculum.full_size) != as_pair(full_size):
            raise ValueError(
                f"the last of {name} must have model.image_size {full_size}, "
                f"got {curriculum.full_size}"
            )
        return curriculum
