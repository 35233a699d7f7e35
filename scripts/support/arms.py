"""The arms of `scripts/study.py`: how each is pretrained, and how large the study is.

none      no pretraining: training from scratch for SCRATCH times as many epochs as fine-tuning
constant  E epochs at 28 pixels
control   the same, for as many epochs as have the cost of et
et        EfficientTrain, E epochs
etpp      EfficientTrain++ at the cost of control; in etpp, etpp_hog and fast the loader shrinks
          the images, as in our recipes, which is not the exact crop of et and low
etpp_hog  the same with histograms of oriented gradients (in cells of 2 pixels) as the target
low       20 pixels throughout (a single last step at 28) at the cost of control
fast      our recipe et_fast_vit_b_16 (etpp_hog with half of the decoder's blocks, decoding half
          of the masked patches) for half as many full-size epochs as control
"""

from __future__ import annotations

from dataclasses import dataclass

SCRATCH = 3
"""The epochs of the arm none, as a multiple of those of fine-tuning. In FLOPs this is less than et
takes to pretrain and fine-tune: 0.78 times as many at the scale cpu, 0.34 at the scale gpu."""

ARMS = ("none", "constant", "control", "et", "etpp", "etpp_hog", "low", "fast")

WARMUP = 1 / 8
"""The share of the learning-rate schedule that is warm-up, in every arm."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the study is.

    Args:
        epochs: Epochs of the arms constant and et.
        seeds: Seeds of every arm.
        decoder_depth: Number of decoder blocks.
        pretraining: Further fields of every pretraining run, which override those of the recipe
            demo.
        network: Fields of every run.
        finetuning: Epochs and batch size.
    """

    epochs: float
    seeds: tuple[int, ...]
    decoder_depth: int
    pretraining: dict[str, object]
    network: dict[str, object]
    finetuning: tuple[float, int]


SCALES = {
    "cpu": Scale(
        epochs=2,
        seeds=(0, 1, 2, 3, 4),
        decoder_depth=2,
        pretraining={
            "model__decoder_dim": 48,
            "model__decoder_num_heads": 2,
            "optim__batch_size": 128,
            "run__checkpoint_every": 250,
            "run__eval_every": 500,
        },
        network={
            "model__encoder_args": "{embed_dim: 64, depth: 4, num_heads: 2}",
            "model__patch_size": 2,
            "run__tracker": "none",
        },
        finetuning=(2, 16),
    ),
    "gpu": Scale(
        epochs=100,
        seeds=(0, 1, 2, 3, 4),
        decoder_depth=4,
        pretraining={
            "model__decoder_dim": 256,
            "model__decoder_num_heads": 8,
            "optim__batch_size": 1024,
            "optim__micro_batch_size": 1024,
            "optim__base_lr": 5e-4,
        },
        network={
            "model__encoder_args": "{embed_dim: 384, depth: 12, num_heads: 6}",
            "model__patch_size": 2,
            "data__num_workers": 8,
            "run__mixed_precision": "bf16",
            "run__tracker": "none",
        },
        finetuning=(30, 256),
    ),
}


def arm_fields(scale: Scale, arm: str) -> dict[str, object]:
    """Return the fields of an arm's pretraining, without its length and seed."""
    low = "[{size: 20, share: 999999}, {size: 28, share: 1}]"  # a stage has at least one step
    plus: dict[str, object] = {
        "curriculum__name": "efficienttrain_plus",
        "curriculum__cost": "flops",
        "data__downsample": "loader",
    }
    hog: dict[str, object] = {**plus, "model__target": "hog", "model__hog__cell": 2}
    half: dict[str, object] = {
        "model__decoder_depth": scale.decoder_depth // 2,
        "model__decode_ratio": 0.5,
    }
    by_arm: dict[str, dict[str, object]] = {
        "constant": {"curriculum__name": "constant"},
        "control": {"curriculum__name": "constant"},
        "et": {"curriculum__name": "efficienttrain"},
        "etpp": plus,
        "etpp_hog": hog,
        "low": {
            "curriculum__name": "stages",
            "curriculum__cost": "flops",
            "curriculum__stages": low,
        },
        "fast": {**hog, **half},
    }
    own = {"model__decoder_depth": scale.decoder_depth}
    return scale.network | scale.pretraining | own | by_arm[arm]
