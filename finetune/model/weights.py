"""Load the weights of a pretrained encoder, or of an earlier classifier, into a classifier."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mae_et.weights import Pretrained, load_weights

log = logging.getLogger(__name__)


def load_encoder(
    classifier: nn.Module,
    pretrained: Pretrained,
    checkpoint: str,
    class_names: Sequence[str] | None = None,
) -> None:
    """Load all weights but the head, and the head too if it is for the same classes.

    Args:
        classifier: The model that gets the weights; positions are resampled to a
            VisionTransformer's grid.
        pretrained: The weights, as `mae_et.weights.Origin.read` returns them.
        checkpoint: Where the weights come from, for messages.
        class_names: The names of the classifier's classes; None for an encoder without a head.

    Raises:
        ValueError: The checkpoint is of another architecture.
    """
    if isinstance(classifier, VisionTransformer):
        weights = _weights_of_vit(classifier, pretrained, checkpoint)
    else:
        weights = _encoder_weights(pretrained)
    own = classifier.state_dict()
    heads = _head_names(classifier)
    old_head = {name: value for name, value in weights.items() if name.startswith(heads)}
    if old_head and not _is_for(pretrained, class_names, old_head, own):
        weights = {name: value for name, value in weights.items() if name not in old_head}
        if class_names is not None:
            log.warning("the checkpoint's head has other classes; a new one takes its place")
    unused = [name for name in weights if name.startswith("norm.") and name not in own]
    for name in unused:  # the classifier pools, and has a new norm after that
        del weights[name]
    load_weights(classifier, weights, checkpoint, may_miss=(*heads, "fc_norm."))


def _head_names(classifier: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of the head's weights; distilled DeiTs have two heads."""
    heads = (getattr(classifier, "pretrained_cfg", None) or {}).get("classifier") or "head"
    return tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))


def _encoder_weights(pretrained: Pretrained) -> dict[str, Tensor]:
    return {
        name.removeprefix("encoder."): value
        for name, value in pretrained.weights.items()
        if name.startswith("encoder.")
    }


def _weights_of_vit(
    vit: VisionTransformer, pretrained: Pretrained, checkpoint: str
) -> dict[str, Tensor]:
    """Return the checkpoint's weights at the grid of the model.

    Raises:
        ValueError: The checkpoint is of another architecture; the message says what it needs.
    """
    described = Pretrained(
        weights={f"encoder.{name}": value for name, value in vit.state_dict().items()},
        num_heads=vit.blocks[0].attn.num_heads,
    )
    pretrained.check_fits(described, checkpoint)
    weights = _encoder_weights(pretrained)
    num_prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    table = pretrained.resampled("encoder.pos_embed", vit.patch_embed.grid_size, num_prefix)
    if table is not None:
        weights["pos_embed"] = table
    return weights


def _is_for(
    pretrained: Pretrained,
    class_names: Sequence[str] | None,
    head: dict[str, Tensor],
    own: dict[str, Tensor],
) -> bool:
    """Return whether a checkpoint's head is for these classes, as far as it says."""
    if any(name not in own or own[name].shape != value.shape for name, value in head.items()):
        return False
    names = pretrained.class_names
    return names is None or class_names is None or names == list(class_names)
