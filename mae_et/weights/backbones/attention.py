"""Swin, PVT and Hiera as transformers has them.

Where transformers has fewer parts, weights are changed so that the outputs are the same:

- Hiera's positions are one table, so those that are split in two are added up, and layer scale
  becomes part of the linear layer before it.
- All norms of PVT have one epsilon. Those after a convolution have another one here, for which the
  convolution's weights make up: LN(c x; c² epsilon) = LN(x; epsilon).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from timm.models.hiera import Hiera
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor

from ...model import PyramidVisionTransformer, split_positions
from ..from_transformers import Renaming
from .kind import Kind


def _swin_lacks(swin: SwinTransformer) -> dict[str, bool]:
    blocks = [(n % 2, block) for stage in swin.layers for n, block in enumerate(stage.blocks)]
    windows = list(dict.fromkeys(block.window_size for _, block in blocks))
    shown = ", ".join(f"{height} x {width}" for height, width in windows)
    side = windows[0][0]

    def moves_alike(is_odd: int, block: SwinTransformerBlock) -> bool:
        """Every other block shifts its windows, unless there is one alone; both pad otherwise."""
        shift = is_odd * (side // 2) if min(block.input_resolution) > side else 0
        fits = not any(length % side for length in block.input_resolution)
        return block.shift_size == (shift, shift) and (fits or not shift)

    widths = [stage.blocks[0].dim for stage in swin.layers]
    return {
        f"windows of several sizes ({shown})": windows != [(side, side)],
        f"windows of {side} that do not fit the maps": windows == [(side, side)]
        and not all(moves_alike(*block) for block in blocks),
        "widths that do not double": widths != [widths[0] * 2**n for n in range(len(widths))],
        "heads of a width of their own": any(
            block.attn.qkv.out_features != 3 * block.dim for _, block in blocks
        ),
        "several mlp_ratios": len({block.mlp_ratio for _, block in blocks}) > 1,
    }


def _swin_config(swin: SwinTransformer) -> dict[str, Any]:
    block = swin.layers[0].blocks[0]
    return {
        "patch_size": swin.patch_embed.patch_size[0],
        "embed_dim": block.dim,
        "depths": [len(stage.blocks) for stage in swin.layers],
        "num_heads": [stage.blocks[0].attn.num_heads for stage in swin.layers],
        "window_size": block.window_size[0],
        "mlp_ratio": block.mlp_ratio,
        "qkv_bias": block.attn.qkv.bias is not None,
        "layer_norm_eps": block.norm1.eps,
        "drop_path_rate": 0.0,
    }


def _swin_renaming(swin: SwinTransformer) -> Renaming:
    """A stage begins with the merging of patches in timm, and ends with it in transformers."""
    merging = (
        (rf"^layers\.{stage}\.downsample\.", f"encoder.layers.{stage - 1}.downsample.")
        for stage in range(1, len(swin.layers))
    )
    return (
        *merging,
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^patch_embed\.norm\.", "embeddings.norm."),
        (r"^layers\.", "encoder.layers."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.attn\.qkv\.", ".attention.self.query|key|value."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.attn\.relative", ".attention.self.relative"),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"^norm\.", "layernorm."),
        (r"^head\.fc\.", "classifier."),
    )


def _swin_weights(swin: SwinTransformer) -> dict[str, Tensor]:
    """Files on the Hub hold the indices into the tables too, which early versions ask for."""
    of_windows = {n: b for n, b in swin.named_buffers() if n.endswith("relative_position_index")}
    return {**swin.state_dict(), **of_windows}


def _pvt_lacks(pvt: PyramidVisionTransformer) -> dict[str, bool]:
    first: Any = pvt.patch_embed1
    ratios = _pvt_config(pvt)["mlp_ratios"]
    return {
        "patches of another size than 4 pixels": first.proj.stride != (4, 4),
        f"mlp_ratios of {ratios}": any(isinstance(ratio, float) for ratio in ratios),
    }


def _pvt_config(pvt: PyramidVisionTransformer) -> dict[str, Any]:
    blocks: list[Any] = [pvt.blocks(stage) for stage in range(pvt.num_stages)]
    dims = [of_stage[0].attn.q.out_features for of_stage in blocks]
    strides = [4, *[2] * (len(dims) - 1)]
    return {
        "num_encoder_blocks": len(blocks),
        "depths": [len(of_stage) for of_stage in blocks],
        "sequence_reduction_ratios": [of_stage[0].attn.sr_ratio for of_stage in blocks],
        "hidden_sizes": dims,
        "patch_sizes": strides,
        "strides": strides,
        "num_attention_heads": [of_stage[0].attn.num_heads for of_stage in blocks],
        "mlp_ratios": [
            _whole(of_stage[0].mlp.fc1.out_features / dim)
            for of_stage, dim in zip(blocks, dims, strict=True)
        ],
        "qkv_bias": blocks[0][0].attn.q.bias is not None,
        "layer_norm_eps": pvt.norm.eps,
    }


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _pvt_renaming(pvt: PyramidVisionTransformer) -> Renaming:
    last = pvt.num_stages - 1
    stages = [
        renamed
        for n in range(pvt.num_stages)
        for renamed in (
            (rf"^patch_embed{n + 1}\.proj\.", f"encoder.patch_embeddings.{n}.projection."),
            (rf"^patch_embed{n + 1}\.norm\.", f"encoder.patch_embeddings.{n}.layer_norm."),
            (rf"^pos_embed{n + 1}$", f"encoder.patch_embeddings.{n}.position_embeddings"),
            (rf"^block{n + 1}\.", f"encoder.block.{n}."),
        )
    ]
    return (
        *stages,
        (r"^cls_token$", f"encoder.patch_embeddings.{last}.cls_token"),
        (r"\.norm1\.", ".layer_norm_1."),
        (r"\.norm2\.", ".layer_norm_2."),
        (r"\.attn\.q\.", ".attention.self.query."),
        (r"\.attn\.kv\.", ".attention.self.key|value."),
        (r"\.attn\.sr\.", ".attention.self.sequence_reduction."),
        (r"\.attn\.norm\.", ".attention.self.layer_norm."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc", ".mlp.dense"),
        (r"^norm\.", "encoder.layer_norm."),
        (r"^head\.", "classifier."),
    )


def _pvt_weights(pvt: PyramidVisionTransformer) -> dict[str, Tensor]:
    """Convolutions before norms of another epsilon make up for it."""
    weights: dict[str, Tensor] = pvt.state_dict()
    modules: dict[str, Any] = dict(pvt.named_modules())
    for name, module in modules.items():
        before, _, leaf = name.rpartition(".")
        conv = f"{before}.{'proj' if before.startswith('patch_embed') else 'sr'}"
        if leaf == "norm" and conv in modules:
            scale = math.sqrt(pvt.norm.eps / module.eps)
            for part in ("weight", "bias"):
                weights[f"{conv}.{part}"] = weights[f"{conv}.{part}"] * scale
    return weights


def _hiera_lacks(hiera: Hiera) -> dict[str, bool]:
    grows = [block for block in hiera.blocks if block.do_expand and block.proj is None]
    return {"stages that grow without a layer (use_expand_proj false)": bool(grows)}


def _hiera_config(hiera: Hiera) -> dict[str, Any]:
    blocks, last = hiera.blocks, hiera.stage_ends
    of_stage = [blocks[end] for end in last]
    dims = [block.dim_out for block in of_stage]
    conv = hiera.patch_embed.proj
    rows, columns = hiera.tokens_spatial_shape
    in_windows = [block.attn.use_mask_unit_attn for block in blocks]
    return {
        "image_size": [rows * conv.stride[0], columns * conv.stride[1]],
        "embed_dim": dims[0],
        "embed_dim_multiplier": dims[1] / dims[0] if len(dims) > 1 else 1.0,
        "patch_size": list(conv.kernel_size),
        "patch_stride": list(conv.stride),
        "patch_padding": list(conv.padding),
        "depths": [end - start for start, end in pairwise([-1, *last])],
        "num_heads": [block.attn.heads for block in of_stage],
        "num_query_pool": hiera.q_pool,
        "query_stride": list(hiera.q_stride),
        "masked_unit_size": list(hiera.mask_unit_size),
        # A stage's first block does as the stage before it.
        "masked_unit_attention": [in_windows[min(end + 1, len(blocks) - 1)] for end in last],
        "mlp_ratio": blocks[0].mlp.fc1.out_features / blocks[0].dim_out,
        "layer_norm_eps": blocks[0].norm1.eps,
    }


def _hiera_renaming(hiera: Hiera) -> Renaming:
    starts = [0, *(end + 1 for end in hiera.stage_ends)]
    blocks = [
        (rf"^blocks\.{start + n}\.", f"encoder.stages.{stage}.layers.{n}.")
        for stage, (start, stop) in enumerate(pairwise(starts))
        for n in range(stop - start)
    ]
    return (
        *blocks,
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"^head\.norm\.", "pooler.layernorm."),
        (r"^head\.fc\.", "classifier."),
    )


def _hiera_weights(hiera: Hiera) -> dict[str, Tensor]:
    """Positions become one table, and layer scale a part of the layer before it."""
    weights: dict[str, Tensor] = hiera.state_dict()
    if weights.pop("pos_embed_win", None) is not None:
        rows, columns = hiera.tokens_spatial_shape
        weights["pos_embed"] = split_positions(hiera, (rows, columns))
    for scale, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        for n in range(len(hiera.blocks)):
            gamma = weights.pop(f"blocks.{n}.{scale}.gamma", None)
            if gamma is not None:
                weight, bias = (f"blocks.{n}.{layer}.{part}" for part in ("weight", "bias"))
                weights[weight] = weights[weight] * gamma[:, None]
                weights[bias] = weights[bias] * gamma
    return weights


SWIN = Kind("Swin", _swin_lacks, _swin_config, _swin_renaming, _swin_weights)
PVT = Kind("Pvt", _pvt_lacks, _pvt_config, _pvt_renaming, _pvt_weights, pool="token")
HIERA = Kind("Hiera", _hiera_lacks, _hiera_config, _hiera_renaming, _hiera_weights)
