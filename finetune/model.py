"""The classifier: a timm VisionTransformer, with the weights of a pretrained encoder."""

from __future__ import annotations

import logging
from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mae_et.model import create_vit
from mae_et.pretrained import Pretrained, check_architecture, read_pretrained
from mae_et.weights import load_weights

from .config import ModelConfig

log = logging.getLogger(__name__)


def build_classifier(model: ModelConfig, num_classes: int, checkpoint: str) -> VisionTransformer:
    """A classifier with the weights of an encoder, or with new ones for "none".

    The head is new, and so is the norm after average pooling, as in the reference implementation
    of MAE's fine-tuning. Positions are resampled to the image size.

    Raises:
        ValueError: the model can't be built, or the checkpoint is not its encoder.
    """
    classifier = create_vit(
        model.encoder,
        image_size=model.image_size,
        patch_size=model.patch_size,
        in_chans=model.in_chans,
        num_classes=num_classes,
        global_pool=model.global_pool,
        drop_path_rate=model.drop_path,
        encoder_args=model.encoder_args,
    )
    if checkpoint != "none":
        nn.init.trunc_normal_(classifier.head.weight, std=2e-5)  # as in the reference
        load_encoder(classifier, checkpoint)
    return classifier


def load_encoder(classifier: VisionTransformer, checkpoint: str) -> None:
    """Load all but the head from an encoder; see `mae_et.pretrained.read_pretrained` for the kinds.

    Raises:
        ValueError: the checkpoint is missing, damaged, unsafe, or of another architecture.
    """
    path = Path(checkpoint)
    pretrained = read_pretrained(path / "encoder" if (path / "encoder").is_dir() else path)
    own = classifier.state_dict()
    described = Pretrained(
        weights={f"encoder.{name}": value for name, value in own.items()},
        num_heads=classifier.blocks[0].attn.num_heads,
    )
    check_architecture(pretrained, described, checkpoint)
    num_prefix = 0 if classifier.no_embed_class else classifier.num_prefix_tokens
    grid = classifier.patch_embed.grid_size
    table = pretrained.resampled("encoder.pos_embed", grid, num_prefix)
    weights = {
        name.removeprefix("encoder."): value
        for name, value in pretrained.weights.items()
        if name.startswith("encoder.")
    }
    if table is not None:
        weights["pos_embed"] = table
    for name in [name for name in weights if name.startswith(("norm.", "head."))]:
        if name not in own or weights[name].shape != own[name].shape:
            del weights[name]
            if name == "head.weight":
                log.warning("the checkpoint's head has other classes; a new one takes its place")
    load_weights(classifier, weights, checkpoint, may_miss=("head.", "fc_norm."))
