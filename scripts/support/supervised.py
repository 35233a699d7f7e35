"""The networks, the arms and the settings of `scripts/study_supervised.py`.

Sizes are an eighth of the papers': 12, 20, 24 and 28 pixels for 96, 160, 192 and 224. RandAug is
`rand-mM-mstd0.5-inc1`. E is the number of passes of the arm constant.

constant  E passes at 28 pixels, M = 9
control   the same for fewer passes, which cost as many FLOPs as et
et        EfficientTrain, E passes: stages of 20, 20, 20, 24, 28 pixels with M = 1, 3, 5, 7, 9
etpp      EfficientTrain++ for the cost of 2/3 E passes at 28 pixels, like the 200 of the paper for
          300: ten sub-stages of equal cost with M = 0 … 9, of the sizes in the family's recipe
low       E passes at 20 pixels (but for a single last step at 28), M = 9
low_end   the same, with the last tenth of its steps at 28 pixels

Whatever else they share: batch, peak learning rate and drop path (both tuned for constant), weight
decay, label smoothing, and a schedule that warms up for a tenth and then follows half a cosine.
Images are cropped to low frequencies on the device, after RandAug at 28 pixels. Accuracy is that at
28 pixels.

Variants change one thing, to find what a loss of accuracy comes from:

et_m9                     et with M = 9 in all stages
et_loader                 et whose loader shrinks the images (bicubic), so that no edge rings
et_still, constant_still  no drop path
et_long, constant_long    2 E passes
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FAMILIES: dict[str, dict[str, Any]] = {
    "ResNet": {
        "encoder": "backbones:resnet",
        "encoder_args": {"layers": [1, 2], "channels": [24, 64]},
    },
    "ConvNeXt": {
        "encoder": "backbones:convnext",
        "encoder_args": {"depths": [1, 2], "dims": [32, 64]},
        "sizes": "convnext",
    },
    "DeiT": {
        "encoder": "deit_tiny_patch16_224",
        "encoder_args": {"embed_dim": 48, "depth": 4, "num_heads": 3},
        "patch_size": 4,
        "global_pool": "token",
        "sizes": "deit",
    },
    "PVT": {
        "encoder": "pvt_v1_tiny",
        "encoder_args": {
            "patch_size": 2,
            "embed_dims": [24, 64],
            "depths": [1, 2],
            "num_heads": [1, 2],
            "mlp_ratios": [4, 4],
            "sr_ratios": [2, 1],
        },
    },
    "Swin": {
        "encoder": "swin_tiny_patch4_window7_224",
        "encoder_args": {
            "patch_size": 2,
            "window_size": 7,
            "embed_dim": 24,
            "depths": [1, 2],
            "num_heads": [1, 2],
        },
    },
    "CSWin": {
        "encoder": "cswin_tiny_224",
        "encoder_args": {
            "embed_dim": 48,
            "depths": [1, 2],
            "num_heads": [2, 4],
            "stripe_widths": [1],
        },
    },
    "PVTv2": {"encoder": "pvt_v2_b0", "encoder_args": {"depths": [1, 1, 1, 1]}},
    "CAFormer": {"encoder": "backbones:caformer", "encoder_args": {}},
}
"""Family -> its member's section `model`, and the published list of EfficientTrain++'s sizes."""

PAPER = ("ResNet", "ConvNeXt", "DeiT", "PVT", "Swin", "CSWin")
"""The families of the paper; the others run only if they are named."""

BATCH_SIZE = 32
"""Images of a step. Few passes are few steps, of which the transformers need most: on 5,000 images,
six passes in batches of 64 and 32 led DeiT to 53 and 59 % for 7 % more CPU time."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How a network is trained.

    Args:
        settings: What differs from constant, by dotted name.
        passes: Its `optim.epochs`, as a multiple of E.
        costs: The arm whose cost it has, by another number of passes; None for its own.
        against: The arm that it is compared with.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    passes: float = 1.0
    costs: str | None = None
    against: str = "constant"


def _low(rest: int) -> dict[str, Any]:
    """Return the settings of a run at 20 pixels but for one of `rest` + 1 steps."""
    stages = [{"size": 20, "share": rest}, {"size": 28, "share": 1}]
    return {"curriculum.name": "stages", "curriculum.stages": stages}


ET = {"curriculum.name": "efficienttrain"}
STILL = {"model.drop_path": 0.0}

ARMS: dict[str, Arm] = {
    "constant": Arm(),
    "et": Arm(settings=ET),
    "etpp": Arm(settings={"curriculum.name": "efficienttrain_plus"}, passes=2 / 3),
    "control": Arm(costs="et"),
    "low": Arm(settings=_low(999_999)),  # a stage has at least one step
    "low_end": Arm(settings=_low(9)),
}
"""The arms that are run unless others are named, the most telling first."""

VARIANTS: dict[str, Arm] = {
    "et_m9": Arm(settings={**ET, "curriculum.magnitudes": [9] * 5}),
    "et_loader": Arm(settings={**ET, "data.downsample": "loader"}),
    "constant_still": Arm(settings=STILL),
    "et_still": Arm(settings=ET | STILL, against="constant_still"),
    "constant_long": Arm(passes=2),
    "et_long": Arm(settings=ET, passes=2, against="constant_long"),
}
"""The arms for diagnosis."""

ALL_ARMS = ARMS | VARIANTS

FIRST = ("constant", "et", "etpp")
"""The arms that are run first, of all families."""

RATES = (1e-3, 2e-3, 4e-3)
"""Peak learning rates that are tried first."""

RATE_LIMITS = (2.5e-4, 1.6e-2)
"""The lowest and the highest that is tried."""

DROP_PATHS = (0.0, 0.1)
"""Rates of drop path that are tried, the second at the best learning rate."""

Trial = tuple[float, float]
"""A peak learning rate and a drop path."""


def next_trial(scores: dict[Trial, float]) -> Trial | None:
    """Return what is to be tried next; None once tuning is complete.

    A best rate that is the lowest or the highest so far has a neighbour tried, at half or twice it.

    Args:
        scores: Trial -> accuracy.
    """
    first, second = DROP_PATHS
    tried = {rate: score for (rate, drop_path), score in scores.items() if drop_path == first}
    for rate in RATES:
        if rate not in tried:
            return rate, first
    best = max(tried, key=lambda rate: tried[rate])
    low, high = RATE_LIMITS
    if best == min(tried) and best / 2 >= low:
        return best / 2, first
    if best == max(tried) and best * 2 <= high:
        return best * 2, first
    return None if (best, second) in scores else (best, second)


def settings(
    family: str,
    arm: str,
    seed: int,
    trial: Trial,
    *,
    passes: float,
    data: str,
    per_class: int,
) -> dict[str, Any]:
    """Return the settings of a run that differ from the recipe demo, by dotted name.

    Args:
        family: One of FAMILIES.
        arm: One of ALL_ARMS.
        seed: Chooses the training images, their order and the initial weights.
        trial: Peak learning rate and drop path.
        passes: `optim.epochs`.
        data: `data.path`.
        per_class: Training images of each class.
    """
    member = dict(FAMILIES[family])
    sizes = member.pop("sizes", None)
    model = {"patch_size": None, "global_pool": None, **member}
    rate, drop_path = trial
    chosen = {
        "data.path": data,
        "data.labels_per_class": per_class,
        "data.label_seed": seed,
        "data.num_workers": 0,
        **{f"model.{name}": value for name, value in model.items()},
        "model.drop_path": drop_path,
        "augment.randaug": "rand-m9-mstd0.5-inc1",
        "augment.label_smoothing": 0.1,
        "optim.epochs": passes,
        "optim.warmup_epochs": passes / 10,
        "optim.batch_size": BATCH_SIZE,
        "optim.base_lr": rate * 256 / BATCH_SIZE,
        "optim.layer_decay": 1.0,
        "optim.clip_grad": 5.0,
        "run.seed": seed,
        "run.log_every": 50,
        "run.checkpoint_every": 500,
        "run.progress": False,
    }
    chosen |= ALL_ARMS[arm].settings
    if chosen.get("curriculum.name") == "efficienttrain_plus":
        chosen["curriculum.sizes"] = sizes
    return chosen


def order(families: list[str], arms: list[str], seeds: list[int]) -> list[tuple[str, str, int]]:
    """Return the cells (family, arm, seed), those that tell most first."""
    early = [arm for arm in arms if arm in FIRST]
    rounds = [(seeds[0], early), (seeds[0], [arm for arm in arms if arm not in FIRST])]
    rounds += [(seed, arms) for seed in seeds[1:]]
    return [(family, arm, seed) for seed, some in rounds for family in families for arm in some]
