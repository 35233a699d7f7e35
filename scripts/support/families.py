"""A small network of each family for images of 32 pixels, and how it is pretrained."""

from __future__ import annotations

from typing import Any

FAMILIES: dict[str, dict[str, Any]] = {
    "ViT": {
        "method": "mae",
        "encoder": "vit_tiny_patch16_224",
        "encoder_args": {"embed_dim": 96, "depth": 4, "num_heads": 4},
        "patch_size": 4,
        "mask_ratio": 0.75,
    },
    "Hiera": {
        "method": "hiera",
        "encoder": "hiera_tiny_224",
        "encoder_args": {
            "embed_dim": 32,
            "num_heads": 1,
            "stages": [1, 1, 2],
            "q_pool": 2,
            "mask_unit_size": [4, 4],
            "mask_unit_attn": [True, False, False],
            "patch_stride": [2, 2],
            "patch_kernel": [3, 3],
            "patch_padding": [1, 1],
        },
        "positions": "learned",
    },
    "ResNet": {
        "encoder": "resnet10t",
        "encoder_args": {"channels": [24, 48, 96, 128], "output_stride": 8},
    },
    "ConvNeXt": {
        "encoder": "convnext_atto",
        "encoder_args": {
            "patch_size": 1,
            "depths": [1, 1, 2, 1],
            "dims": [16, 32, 64, 128],
        },
    },
    "Swin": {
        "encoder": "swin_tiny_patch4_window7_224",
        "encoder_args": {
            "patch_size": 4,
            "window_size": 4,
            "embed_dim": 64,
            "depths": [2, 2],
            "num_heads": [2, 4],
        },
    },
    "PVT": {
        "encoder": "pvt_v1_tiny",
        "encoder_args": {
            "patch_size": 4,
            "embed_dims": [64, 128],
            "depths": [2, 2],
            "num_heads": [2, 4],
            "mlp_ratios": [4, 4],
            "sr_ratios": [2, 1],
        },
    },
    "CSWin": {
        "encoder": "cswin_tiny_224",
        "encoder_args": {
            "embed_dim": 48,
            "depths": [1, 3],
            "num_heads": [2, 4],
            "stripe_widths": [1],
        },
    },
}
"""Family -> what differs from COMMON in the section `model`."""

COMMON: dict[str, Any] = {"method": "simmim", "image_size": 32, "in_chans": 1, "mask_ratio": 0.6}

OF_METHOD: dict[str, dict[str, Any]] = {
    "simmim": {"mask_unit": 4},
    "mae": {"decoder_dim": 64, "decoder_depth": 1, "decoder_num_heads": 4},
}
OF_METHOD["hiera"] = OF_METHOD["mae"]

TARGETS: dict[str, dict[str, Any]] = {
    "hog": {"target": "hog", "hog": {"cell": 4}},
    "pixel": {"target": "pixel"},
}


def section(family: str, target: str) -> dict[str, Any]:
    """The section `model` of a family's pretraining."""
    model = COMMON | FAMILIES[family]
    return {**model, **OF_METHOD[model["method"]], **TARGETS[target]}
