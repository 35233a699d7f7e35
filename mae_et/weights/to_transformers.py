"""Convert the weights and configurations of our models to those of transformers.

    MaskedAutoencoder                      ->  ViTMAEForPreTraining (and back: `from_transformers`)
    classifier of the class token          ->  ViTForImageClassification
    classifier of the patches' average     ->  BeitForImageClassification
    networks in stages                     ->  see `backbones`

ViTForImageClassification can classify the class token only. BEiT with mean pooling, absolute
positions and neither relative positions nor layer scale is the network that MAE is fine-tuned as:
patches averaged, then normalised. It has no key bias, which cancels in the softmax: it adds the
same number to all scores of a query.

Tensors get the names that files on the Hub have, which every version of transformers reads. (The
modules' own names change between versions, and `save_pretrained` of 5.23 writes MAE's decoder by
names, "decoder_encoder.layer", that no file on the Hub has.) transformers itself is needed only to
write a folder (`save_transformers`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ..model import MaskedAutoencoder, MaskedModel, SelfDecoder
from .from_transformers import Renaming, rename

PIL_BICUBIC = 3

VIT_MAE = "ViTMAEForPreTraining"

TO_HUB: Renaming = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^fc_norm\.", "pooler.layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv\.", ".attention.attention.query|key|value."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
"""timm's names to the Hub's, after "vit." or "beit."; see `to_hub`."""


class Converted(NamedTuple):
    """A model as transformers represents it."""

    architecture: str
    """The class of the model."""
    config: dict[str, Any]
    """Fields of its configuration."""
    weights: dict[str, Tensor]


def to_vit_mae(model: MaskedModel) -> Converted:
    """Convert a masked autoencoder to ViTMAEForPreTraining.

    Raises:
        ValueError: The model cannot be expressed in transformers; the message says what.
    """
    is_vit = isinstance(model.encoder, VisionTransformer)
    if not isinstance(model, MaskedAutoencoder) or not is_vit:
        raise ValueError(
            "transformers' ViTMAE is a plain vision transformer of model.method mae, got a "
            f"{type(model.encoder).__name__} of model.method {model.method}; its encoder can be "
            "exported to timm or onnx"
        )
    if model.target_name not in ("pixel", "norm_pixel"):
        raise ValueError(
            "transformers' ViTMAE predicts pixels (model.target pixel or norm_pixel), got a model "
            f"of target {model.target_name}; its encoder can be exported to timm or onnx"
        )
    if not isinstance(model.decoder_blocks, SelfDecoder):
        raise ValueError(
            "transformers' ViTMAE decodes by self-attention (model.decoder self), got a model that "
            "decodes by cross-attention; its encoder can be exported to timm or onnx"
        )
    _check_plain(model.encoder)
    config = {
        **_vit_config(model.encoder, model.modules()),
        "decoder_hidden_size": model.decoder_embed.out_features,
        "decoder_num_hidden_layers": len(model.decoder_blocks),
        "decoder_num_attention_heads": model.decoder_blocks.num_heads,
        "decoder_intermediate_size": 4 * model.decoder_embed.out_features,
        "mask_ratio": model.mask_ratio,
        "norm_pix_loss": model.target_name == "norm_pixel",
    }
    if not isinstance(model.encoder.norm, nn.LayerNorm):
        raise ValueError("transformers' ViTMAE can't do without a norm behind the encoder")
    own = model.state_dict()
    encoder = {k.removeprefix("encoder."): v for k, v in own.items() if k.startswith("encoder.")}
    rest = {k: v for k, v in own.items() if not k.startswith("encoder.")}
    decoder_names = (*TO_HUB, (r"^(decoder_)blocks\.", r"\1layers."))
    weights = {
        **{f"vit.{name}": value for name, value in to_hub(encoder, TO_HUB).items()},
        **{f"decoder.{name}": value for name, value in to_hub(rest, decoder_names).items()},
    }
    return Converted(VIT_MAE, config, weights)


def to_classifier(vit: VisionTransformer, class_names: Sequence[str]) -> Converted:
    """Convert a classifier to ViTForImageClassification or BeitForImageClassification.

    Raises:
        ValueError: The model cannot be expressed in transformers; the message says what.
    """
    _check_plain(vit)
    norm, architecture = {
        "token": ("norm", "ViTForImageClassification"),
        "avg": ("fc_norm", "BeitForImageClassification"),
    }.get(vit.global_pool, ("", ""))
    if not norm or vit.pool_include_prefix:
        raise ValueError(
            "transformers' ViT and BEiT classify the class token or the average of the patches, "
            f"got model.global_pool {vit.global_pool!r}"
        )
    if not isinstance(getattr(vit, norm), nn.LayerNorm):
        raise ValueError(
            f"transformers' {architecture} has its last norm in the place of timm's {norm}, "
            "which this model lacks"
        )
    config = {**_vit_config(vit, vit.modules()), **label_fields(class_names)}
    prefix = "vit" if vit.global_pool == "token" else "beit"
    hub = to_hub(vit.state_dict(), TO_HUB)
    weights = {
        re.sub(r"^head\.", "classifier.", name)
        if name.startswith("head.")
        else f"{prefix}.{name}": v
        for name, v in hub.items()
    }
    if prefix == "beit":
        config |= {
            "use_absolute_position_embeddings": True,
            "use_mean_pooling": True,
            "use_relative_position_bias": False,
            "use_shared_relative_position_bias": False,
            "layer_scale_init_value": 0.0,
            "drop_path_rate": 0.0,
        }
        del config["qkv_bias"]  # BEiT always has it, except for the key
        weights = {k: v for k, v in weights.items() if not k.endswith("attention.key.bias")}
    return Converted(architecture, config, weights)


def label_fields(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a configuration that name the classes."""
    labels = dict(enumerate(class_names))
    return {"id2label": labels, "label2id": {name: n for n, name in labels.items()}}


def _vit_config(vit: VisionTransformer, modules: Iterable[nn.Module]) -> dict[str, Any]:
    """Return the fields that all configurations share."""
    epsilons = {module.eps for module in modules if isinstance(module, nn.LayerNorm)}
    if len(epsilons) > 1:
        raise ValueError(
            "transformers has one layer_norm_eps for all of a model, got "
            f"{' and '.join(map(str, sorted(epsilons)))}"
        )
    block = vit.blocks[0]
    return {
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": block.attn.num_heads,
        "intermediate_size": block.mlp.fc1.out_features,
        "hidden_act": "gelu",
        "layer_norm_eps": epsilons.pop(),
        "image_size": vit.patch_embed.img_size[0],
        "patch_size": vit.patch_embed.patch_size[0],
        "num_channels": vit.patch_embed.proj.in_channels,
        "qkv_bias": True,
    }


def _check_plain(vit: VisionTransformer) -> None:
    """Check that the model has nothing that transformers' ViT lacks."""
    block, patch_embed = vit.blocks[0], vit.patch_embed
    names = ".".join(vit.state_dict())
    act = getattr(block.mlp, "act", None)
    found = {
        "register tokens": vit.reg_token is not None,
        "no class token": vit.cls_token is None,
        "no position of the class token": vit.no_embed_class,
        "layer scale": "ls1.gamma" in names,
        "query and key norms": "q_norm" in names,
        "a norm or gate inside attention or MLP": bool(
            re.search(r"(attn|mlp)\.(norm|gate)", names)
        ),
        "a norm in front of the blocks": not isinstance(vit.norm_pre, nn.Identity),
        "a norm of the patches": not isinstance(patch_embed.norm, nn.Identity),
        "layers without bias": None in (block.attn.qkv.bias, block.attn.proj.bias),
        "layer norms of another kind": not isinstance(block.norm1, nn.LayerNorm),
        "an activation other than GELU": type(act) is not nn.GELU or act.approximate != "none",
        "blocks of another kind": type(block) is not Block
        or type(block.attn) is not Attention
        or type(block.mlp) is not Mlp
        or type(patch_embed) is not PatchEmbed,
        f"oblong images {patch_embed.img_size}": len(set(patch_embed.img_size)) > 1,
        f"oblong patches {patch_embed.patch_size}": len(set(patch_embed.patch_size)) > 1,
    }
    names_found = ", ".join(name for name, is_there in found.items() if is_there)
    if names_found:
        raise ValueError(
            f"transformers can't express {names_found}; export to timm or onnx instead"
        )


def to_hub(weights: Mapping[str, Tensor], renaming: Renaming) -> dict[str, Tensor]:
    """Rename weights as on the Hub.

    Args:
        weights: The weights by timm's names.
        renaming: timm's names to the Hub's. Those of joint layers have the names of the parts,
            "query|key|value", of which each gets its rows.
    """
    renamed = {}
    for name, value in weights.items():
        new_name = rename(name, renaming)
        joint = re.search(r"\w+(\|\w+)+", new_name)
        names = joint[0].split("|") if joint else [""]
        for part, rows in zip(names, value.chunk(len(names)) if joint else [value], strict=True):
            own = new_name.replace(joint[0], part) if joint else new_name
            renamed[own] = rows.detach().cpu().contiguous()
    return renamed


def image_processor(
    *, size: int, mean: Sequence[float], std: Sequence[float], crop_pct: float
) -> dict[str, Any]:
    """Return the fields of a BitImageProcessor that does what timm's evaluation transform does.

    With PIL the pixels are the same; transformers' default, torchvision's resize of tensors, is off
    by up to 2 of 255 grey levels. Where half a pixel is left over, timm crops at the nearest even
    pixel and transformers at the one below: one pixel apart for every other such size.

    Args:
        size: Size of the model's images in pixels.
        mean: Mean per channel, of values in [0, 1].
        std: Standard deviation per channel, likewise.
        crop_pct: Share of the resized image's shorter side that is kept.
    """
    return {
        "size": {"shortest_edge": math.floor(size / crop_pct)},
        "crop_size": {"height": size, "width": size},
        "resample": PIL_BICUBIC,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_convert_rgb": len(mean) == 3,
    }


def save_transformers(converted: Converted, processor: Mapping[str, Any], folder: Path) -> None:
    """Write a folder that transformers' `from_pretrained` opens, its image processor included.

    Args:
        converted: The model.
        processor: The fields of its BitImageProcessor.
        folder: The folder, which exists.

    Raises:
        ValueError: The package transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "--format transformers needs transformers: "
            "pip install -e '.[transformers]' in the clone"
        ) from error
    config_class = getattr(transformers, converted.architecture).config_class
    config = config_class(**converted.config, architectures=[converted.architecture])
    (folder / "config.json").write_text(config.to_json_string())
    preprocessor = transformers.BitImageProcessor(**processor).to_dict()
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    save_file(converted.weights, folder / "model.safetensors", metadata={"format": "pt"})
