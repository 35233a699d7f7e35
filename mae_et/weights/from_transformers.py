"""Translate transformers' ViTMAE into our terms: its tensor names and its configuration.

This reads what is on the Hub (facebook/vit-mae-base and the like), what transformers 5 writes, and
its modules' own names. transformers itself is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..curriculum import as_pair, as_size

EPSILON = 1e-6
"""The epsilon of the layer norms in MAE's reference implementation, and in ours."""


Renaming = tuple[tuple[str, str], ...]


FROM_VIT_MAE: Renaming = (
    (r"^vit\.", ""),  # which a bare ViTMAEModel lacks
    (r"^embeddings\.cls_token$", "encoder.cls_token"),
    (r"^embeddings\.position_embeddings$", "encoder.pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^layernorm\.", "encoder.norm."),
    (r"^(encoder\.layer|layers)\.", "encoder.blocks."),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.", "decoder_blocks."),
    (r"^decoder\.", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(attention\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


VIT_MAE_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "decoder_num_attention_heads": 16,
    "decoder_hidden_size": 512,
    "decoder_num_hidden_layers": 8,
    "decoder_intermediate_size": 2048,
    "mask_ratio": 0.75,
    "norm_pix_loss": False,
}
"""The defaults of transformers' ViTMAEConfig, so that reading a folder needs no transformers."""


def from_vit_mae(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of ViTMAEForPreTraining or ViTMAEModel for `MaskedAutoencoder`."""
    renamed = {rename(name, FROM_VIT_MAE): value for name, value in weights.items()}
    joined = {}
    for name, value in renamed.items():
        if ".attn.q." in name:
            parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
            if all(part in renamed for part in parts):
                joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(
                    [renamed[p] for p in parts]
                )
        elif not re.search(r"\.attn\.[kv]\.", name):
            joined[name] = value
    return joined


def rename(name: str, renaming: Renaming) -> str:
    """Apply all replacements of (pattern, replacement) to a name, in order."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


def vit_mae_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `MaskedAutoencoder` for a ViTMAE configuration.

    An epsilon below 1e-6 becomes 1e-6: the official weights were trained with that, though their
    configurations on the Hub say 1e-12. (It moved the predictions of a random ViT-B by 1e-4.)

    Raises:
        ValueError: There is no such model here; the message says why.
    """
    values = {**VIT_MAE_DEFAULTS, **config}
    allowed = {
        "hidden_act": (values["hidden_act"] == "gelu", "gelu"),
        "layer_norm_eps": (values["layer_norm_eps"] <= EPSILON, f"at most {EPSILON}"),
        "qkv_bias": (values["qkv_bias"] is True, "true"),
        "decoder_intermediate_size": (
            values["decoder_intermediate_size"] == 4 * values["decoder_hidden_size"],
            f"4 x decoder_hidden_size {values['decoder_hidden_size']}",
        ),
    }
    for name, (is_allowed, what) in allowed.items():
        if not is_allowed:
            raise ValueError(f"{name} must be {what}, got {values[name]}")
    return {
        "encoder": "vit_base_patch16_224",
        "encoder_args": {
            "embed_dim": values["hidden_size"],
            "depth": values["num_hidden_layers"],
            "num_heads": values["num_attention_heads"],
            "mlp_ratio": values["intermediate_size"] / values["hidden_size"],
        },
        "image_size": as_size(*as_pair(values["image_size"])),
        "patch_size": as_size(*as_pair(values["patch_size"])),
        "in_chans": values["num_channels"],
        "decoder_dim": values["decoder_hidden_size"],
        "decoder_depth": values["decoder_num_hidden_layers"],
        "decoder_num_heads": values["decoder_num_attention_heads"],
        "mask_ratio": values["mask_ratio"],
        "target": "norm_pixel" if values["norm_pix_loss"] else "pixel",
    }
