"""The recipes of `scripts/study_frontier.py`, and the order in which they are searched.

The search starts at FAST and changes one setting at a time, in the order of ORDER. All values of a
setting are tried beside the best recipe so far, and the best of them is kept: by the mean of the
accuracies after fine-tuning and of a linear probe, over the seeds of the search. All cost as many
FLOPs. What is found is tried at each of BUDGETS then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

BASE_RATE = 3e-3
"""`optim.base_lr` of the arm constant, that of the recipe demo."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A way of pretraining.

    Args:
        target: `model.target`.
        decoder: Blocks and width of the decoder.
        decode_ratio: Share of the masked patches that are decoded.
        mask_ratio: Share of the patches that are masked.
        curriculum: One of CURRICULA.
        rate: Learning rate, as a multiple of that of constant.
        budget: FLOPs, as a share of those of constant.
    """

    target: str = "hog"
    decoder: tuple[int, int] = (1, 48)
    decode_ratio: float = 0.5
    mask_ratio: float = 0.75
    curriculum: str = "plus"
    rate: float = 1.0
    budget: float = 0.16

    @property
    def name(self) -> str:
        """A name by which folders and results can be found."""
        return "-".join(shown(value) for value in asdict(self).values())

    def fields(self) -> dict[str, object]:
        """Fields of its pretraining, without its length."""
        depth, width = self.decoder
        hog = {"model__hog__cell": 2} if self.target == "hog" else {}
        return {
            "model__target": self.target,
            "model__decoder_depth": depth,
            "model__decoder_dim": width,
            "model__decode_ratio": self.decode_ratio,
            "model__mask_ratio": self.mask_ratio,
            "optim__base_lr": BASE_RATE * self.rate,
            **hog,
            **CURRICULA[self.curriculum],
        }


CURRICULA: dict[str, dict[str, object]] = {
    "plus": {
        "curriculum__name": "efficienttrain_plus",
        "curriculum__cost": "flops",
        "data__downsample": "loader",
    },
    "low_end": {
        "curriculum__name": "stages",
        "curriculum__cost": "flops",
        "curriculum__stages": "[{size: 20, share: 9}, {size: 28, share: 1}]",
        "data__downsample": "loader",
    },
    "constant": {"curriculum__name": "constant"},
}
"""EfficientTrain++ (stages of 12, 20 and 28 pixels), 20 pixels with a tenth of the FLOPs at 28
pixels in the end, and 28 pixels throughout."""

FAST = Recipe()
"""The arm fast of `scripts/study.py`, our recipe et_fast_vit_b_16."""

ORDER: dict[str, tuple[Any, ...]] = {
    "target": ("pixel", "norm_pixel"),
    "decoder": ((2, 48), (1, 24)),
    "decode_ratio": (1.0, 0.25),
    "mask_ratio": (0.85,),
    "curriculum": ("low_end", "constant"),
    "rate": (1.5, 2.0),
}
"""Setting -> the values that are tried beside that of FAST, settings in the order of the search."""

BUDGETS = (0.12, 0.16, 0.2, 0.25, 0.3)
"""FLOPs at which what was found is tried, as shares of those of constant."""

CHOSEN_BY = ("fine-tuned", "linear")
"""The accuracies by whose mean the search chooses, and that must reach those of constant."""


def shown(value: object) -> str:
    """Return a value of a setting as text."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def search(scores: Mapping[Recipe, float]) -> tuple[Recipe, list[Recipe]]:
    """Return the best recipe so far at the budget of FAST, and those that are to be tried next.

    Args:
        scores: Recipe -> its score, of the recipes that were tried.

    Returns:
        The best, and recipes without a score; without any, the search is over.
    """
    best = FAST
    for setting, values in ORDER.items():
        tried = [best, *(replace(best, **{setting: value}) for value in values)]
        missing = [recipe for recipe in tried if recipe not in scores]
        if missing:
            return best, missing
        best = max(tried, key=lambda recipe: scores[recipe])  # of equal ones, the former
    return best, []


def ladder(best: Recipe) -> list[Recipe]:
    """Return a recipe at each of BUDGETS."""
    return [replace(best, budget=budget) for budget in BUDGETS]


def finalists(recipes: Sequence[Recipe], gains: Mapping[Recipe, Sequence[float]]) -> list[Recipe]:
    """Return the cheapest recipe that loses nothing against constant, and the next dearer one.

    Args:
        recipes: The recipes, cheap ones first; if only the last loses nothing, or all lose, the
            last two are returned.
        gains: Recipe -> by how much each of its scores is above that of constant.
    """
    first = next((n for n, recipe in enumerate(recipes) if min(gains[recipe]) > 0), len(recipes))
    first = min(first, len(recipes) - 2)
    return list(recipes[first : first + 2])
