"""Load the weights of a pretrained encoder, or of a classifier, into a model of timm."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from timm.models.hiera import Hiera
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..model import PyramidTransformer
from .files import load_weights
from .pretrained import Pretrained, num_heads

log = logging.getLogger(__name__)


def load_encoder(
    classifier: nn.Module,
    pretrained: Pretrained,
    checkpoint: str,
    class_names: Sequence[str] | None = None,
    *,
    class_axes: Mapping[str, tuple[int, ...]] | None = None,
    keep_head: bool = False,
) -> bool:
    """Load all weights but the head, and the head too if it is for the same classes.

    A head whose classes are the same in another order is reordered.

    Args:
        classifier: The model that gets the weights; positions are resampled to the grid of a
            VisionTransformer, of a PVT, and of a Hiera.
        pretrained: The weights, as `Origin.read` returns them.
        checkpoint: Where the weights come from, for messages.
        class_names: The names of the classifier's classes; None for an encoder without a head.
        class_axes: The axes of the classifier's tensors that number the classes, by their names.
        keep_head: Whether a head of as many classes stays even if the checkpoint does not name
            them.

    Returns:
        Whether the head is the checkpoint's.

    Raises:
        ValueError: The checkpoint is of another architecture, or has no head to keep.
    """
    if pretrained.note:
        log.warning(pretrained.note)
    own = classifier.state_dict()
    if isinstance(classifier, VisionTransformer):
        weights = _weights_of_vit(classifier, pretrained, checkpoint)
    else:
        weights = encoder_weights(pretrained, own)
    if isinstance(classifier, PyramidTransformer):
        weights = classifier.fit_weights(weights)
    if isinstance(classifier, Hiera):
        height, width = classifier.tokens_spatial_shape  # its table is not of the patches decoded
        table = replace(pretrained, grid=None).resampled("encoder.pos_embed", (height, width), 0)
        weights |= {} if table is None else {"pos_embed": table}
    pretrained.check_layers(classifier, checkpoint)
    axes = class_axes or {}
    heads = _head_names(classifier, axes)
    head = {name: value for name, value in weights.items() if name.startswith(heads)}
    weights = {name: value for name, value in weights.items() if name not in head}
    fits = all(name in own and own[name].shape == value.shape for name, value in head.items())
    if keep_head and not (head and fits):
        raise ValueError(
            f"--keep_head must be false, since checkpoint {checkpoint} has no head of "
            f"{len(class_names or ())} classes"
        )
    has_same_classes = sorted(pretrained.class_names or ()) == sorted(class_names or ())
    if head and fits and class_names is not None and (has_same_classes or not keep_head):
        head = _head_of_classes(head, pretrained.class_names, class_names, axes)
    elif head and not fits and class_names is not None:
        log.warning("the checkpoint's head has other classes; a new one takes its place")
    if fits:
        weights |= head
    unused = [name for name in weights if name.startswith("norm.") and name not in own]
    for name in unused:  # the classifier pools, and has a new norm after that
        del weights[name]
    load_weights(classifier, weights, checkpoint, may_miss=(*heads, "fc_norm."))
    return fits and bool(head)


def _head_of_classes(
    head: dict[str, Tensor],
    old: Sequence[str] | None,
    new: Sequence[str],
    axes: Mapping[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    """Return a head's weights in the order of the new classes; none if it has other classes.

    Args:
        head: The weights, of as many classes.
        old: The names of its classes; None if they are unknown.
        new: The names of the classifier's classes.
        axes: The axes of the head's tensors that number the classes, by their names.
    """
    if old is None or sorted(old) != sorted(new):
        what = "has other classes" if old else "does not name its classes"
        log.warning(
            "the checkpoint's head %s; a new one takes its place (--keep_head true keeps it)", what
        )
        return {}
    if list(old) == list(new):
        return head
    sides = {value.shape[axis] for name, value in head.items() for axis in axes.get(name, ())}
    if sides != {len(old)}:  # several rows for a class, of which nobody knows the order
        log.warning(
            "the classes of the checkpoint's head are in another order, and it can't be reordered; "
            "a new one takes its place"
        )
        return {}
    log.warning("the classes of the checkpoint's head are in another order; it is reordered")
    order = torch.tensor([list(old).index(name) for name in new])
    for name in head.keys() & axes.keys():
        for axis in axes[name]:
            head[name] = head[name].index_select(axis, order)
    return head


def _head_names(classifier: nn.Module, axes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the prefixes of the names of the head's weights; distilled DeiTs have two heads.

    Args:
        classifier: The classifier.
        axes: The axes of its tensors that number the classes, by their names.
    """
    named = (getattr(classifier, "pretrained_cfg", None) or {}).get("classifier") or "head"
    heads = [named] if isinstance(named, str) else named
    return (*(f"{head}." for head in heads), *axes)


def linear_head(classifier: nn.Module) -> nn.Linear | None:
    """Return the head if it is a single linear layer with a bias, else None."""
    names = _head_names(classifier, {})
    modules = dict(classifier.named_modules())
    head = modules.get(names[0].removesuffix(".")) if len(names) == 1 else None
    is_linear = isinstance(head, nn.Linear) and head.bias is not None
    return head if is_linear else None


def encoder_weights(pretrained: Pretrained, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the encoder by the names that match more of the model's own.

    Args:
        pretrained: The weights.
        own: The weights of the model that gets them; empty for a VisionTransformer.
    """
    weights = {
        name.removeprefix("encoder."): value
        for name, value in pretrained.weights.items()
        if name.startswith("encoder.")
    }
    by_file_names = pretrained.by_file_names or {}  # a prefix may be the network's own
    return max(weights, by_file_names, key=lambda found: len(found.keys() & own.keys()))


def _weights_of_vit(
    vit: VisionTransformer, pretrained: Pretrained, checkpoint: str
) -> dict[str, Tensor]:
    """Return the checkpoint's weights at the grid of the model.

    Raises:
        ValueError: The checkpoint is of another architecture; the message says what it needs.
    """
    described = Pretrained(
        weights={f"encoder.{name}": value for name, value in vit.state_dict().items()},
        num_heads=num_heads(vit),
    )
    pretrained.check_fits(described, checkpoint)
    weights = encoder_weights(pretrained, {})
    num_prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    table = pretrained.resampled("encoder.pos_embed", vit.patch_embed.grid_size, num_prefix)
    if table is not None:
        weights["pos_embed"] = table
    return weights
