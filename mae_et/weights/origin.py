"""Identify the weights at a path, how to read them, and how to build their model.

    a file                             in the reference implementation's layout, or any encoder
    RUN, RUN/checkpoints/step_…        a pretraining run and one of its checkpoints
    RUN/encoder, RUN/best, RUN/last    what plain timm opens: an encoder or a classifier
    a folder of transformers           ViTMAEForPreTraining or ViTMAEModel
    timm:MODEL.TAG, hub:OWNER/NAME     either kind of folder, fetched by name (see `by_name`)

Only `find_weights` tells them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import first_line
from ..model import MaskedModel, create_masked
from ..runs import CHECKPOINT_PREFIX, Checkpoint, Run
from .by_name import WEIGHTS, Named, check_not_a_name
from .files import check_model_type, folder_config, read_weights, with_prefix
from .from_reference import REFERENCE_DECODER_HEADS, REFERENCE_HEADS, reference_arguments
from .from_transformers import from_vit_mae, vit_mae_arguments
from .pretrained import Pretrained, describe
from .timm_folder import (
    as_timm_names_them,
    build_timm_model,
    facts_of_network,
    weights_file,
)
from .unwrap import without_prefix


@dataclass(frozen=True, kw_only=True)
class Origin(ABC):
    """Weights that were found at a path.

    Args:
        path: Where the weights are.
        name: The name by which they were given, such as timm:MODEL.TAG; empty for a path.
    """

    path: Path
    name: str = ""

    @property
    def shown(self) -> str:
        """How messages call the weights: by name, or by path."""
        return self.name or str(self.path)

    @property
    def run(self) -> Run | None:
        """The run that they belong to, if any."""
        return Run.of(self.path)

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """The "mean" and "std" of the training images, as in `data`; empty if unknown."""
        return {}

    @abstractmethod
    def read(self) -> Pretrained:
        """Read the weights, and what is known about their model.

        Raises:
            ValueError: The weights are missing, damaged or unsafe.
        """

    @abstractmethod
    def mae(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the arguments of the `MaskedAutoencoder` that the weights fit, and its weights.

        Raises:
            ValueError: The weights are not of a whole masked autoencoder, or are damaged.
        """

    def build_on_meta(self, arguments: Mapping[str, Any]) -> MaskedModel:
        """Build the masked autoencoder that the weights are for, without memory.

        Args:
            arguments: Its arguments, as `mae` returns them.

        Raises:
            ValueError: There is no such model in this version.
        """
        try:
            with torch.device("meta"):
                return create_masked(arguments)
        except Exception as error:  # anybody may have written them, and they raise anything
            raise ValueError(
                f"checkpoint {self.shown} is of another architecture: {first_line(error)}"
            ) from error


class WeightsFile(Origin):
    """A .pth or .safetensors file with the names of the reference implementation or of timm."""

    def read(self) -> Pretrained:
        """Read the weights of an encoder, with its decoder if there is one; see `Origin.read`."""
        file = read_weights(self.path)
        network = without_prefix(file, self.path)
        weights = with_prefix(network.weights)
        pretrained = Pretrained(
            weights=weights,
            by_file_names=file if network.prefix or network.is_renamed else None,
            note=network.note(self.path),
        )
        if "decoder_embed.weight" not in weights:  # an encoder of unknown origin
            return pretrained
        return replace(
            pretrained,
            num_heads=REFERENCE_HEADS.get(weights["decoder_embed.weight"].shape[-1]),
            decoder_num_heads=REFERENCE_DECODER_HEADS,
        )

    def mae(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the masked autoencoder of the reference implementation; see `Origin.mae`."""
        weights = without_prefix(read_weights(self.path), self.path).weights
        return reference_arguments(weights, self.path), with_prefix(weights)


@dataclass(frozen=True, kw_only=True)
class TransformersFolder(Origin):
    """A folder of transformers' ViTMAE.

    Args:
        config: Its config.json.
    """

    config: dict[str, Any]

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """See `Origin.normalisation`."""
        described = folder_config(self.path, "preprocessor_config.json")
        names = {"mean": "image_mean", "std": "image_std"}
        return _normalisation({ours: described.get(theirs) for ours, theirs in names.items()})

    def read(self) -> Pretrained:
        """Read the weights; see `Origin.read`."""
        arguments, weights = self.mae()
        masked = arguments | {"mask_ratio": 0.75}  # which may be 0 for features, and is no weight
        return replace(describe(self.build_on_meta(masked), weights), encoder_args={})

    def mae(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the masked autoencoder; see `Origin.mae`."""
        try:
            arguments = vit_mae_arguments(self.config)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ValueError(
                f"checkpoint {self.shown} is of another architecture: {error}"
            ) from error
        return arguments, from_vit_mae(read_weights(weights_file(self.path)))


@dataclass(frozen=True, kw_only=True)
class TimmFolder(Origin):
    """A folder that plain timm opens: the encoder of a run, a classifier, or someone else's model.

    Args:
        config: Its config.json.
    """

    config: dict[str, Any] = field(default_factory=dict)

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """See `Origin.normalisation`."""
        return _normalisation(self.config.get("pretrained_cfg"))

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes of its head by number; None if it does not tell any."""
        names = self.config.get("label_names")
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return list(names) if names and is_list else None

    def read(self) -> Pretrained:
        """Read the weights of an encoder, or of a classifier with its head; see `Origin.read`."""
        weights, model = as_timm_names_them(read_weights(weights_file(self.path)), self.config)
        facts = facts_of_network(self.config, model)
        return Pretrained(weights=with_prefix(weights), class_names=self.class_names, **facts)

    def build(self) -> nn.Module:
        """Build the model with its weights, in evaluation mode.

        Raises:
            ValueError: The weights are damaged, or the model is not one of timm's.
        """
        return build_timm_model(self.config, read_weights(weights_file(self.path)), self.shown)

    def mae(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Raise ValueError, since the folder has no decoder; see `Origin.mae`."""
        raise ValueError(
            "checkpoint must be a run's folder with a checkpoint in it, a .pth file or a ViTMAE of "
            f"transformers, got {self.shown}, which has no decoder"
        )


@dataclass(frozen=True, kw_only=True)
class RunCheckpoint(Origin):
    """A checkpoint of a pretraining run.

    Args:
        checkpoint: The checkpoint.
    """

    checkpoint: Checkpoint

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """See `Origin.normalisation`."""
        return _normalisation(Run(self.checkpoint.run_folder).read_config().get("data"))

    def read(self) -> Pretrained:
        """Read the weights; see `Origin.read`."""
        arguments, weights = self.mae()
        pretrained = describe(self.build_on_meta(arguments), weights)
        return replace(pretrained, encoder=arguments.get("encoder"))

    def mae(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the masked autoencoder; see `Origin.mae`."""
        arguments = Run(self.checkpoint.run_folder).read_config().get("model")
        if not isinstance(arguments, dict) or "decoder_dim" not in arguments:
            raise ValueError(f"checkpoint must be a pretraining run's folder, got {self.path}")
        return arguments, read_weights(self.checkpoint.weights)


def find_weights(path: str | Path, *, prefer_result: bool = False) -> Origin:
    """Identify the weights at a path, without reading them.

    Args:
        path: A file, a run, one of its checkpoints or results, a folder of timm or transformers, or
            the name of weights that are fetched if they are not yet in the cache (see `by_name`).
        prefer_result: Whether a run means its encoder or its best classifier, if it has written
            one, rather than its last checkpoint.

    Raises:
        ValueError: The folder holds no known kind of weights, its config.json is damaged, or what
            a name stands for can't be had. (A missing file is noticed when it is read.)
    """
    named, given, path = Named.of(path), path, Path(path)
    if named is not None:
        return _named_weights(named)
    if not path.is_dir():
        check_not_a_name(given)
        return WeightsFile(path=path)
    config = folder_config(path)
    check_model_type(config, path)
    if "model_type" in config:
        return TransformersFolder(path=path, config=config)
    run = Run(path)
    is_called_checkpoint = path.name.startswith(CHECKPOINT_PREFIX) and not (config or run.exists)
    chosen = Checkpoint.at(path) if is_called_checkpoint else None
    if chosen is None and is_called_checkpoint:
        raise ValueError(
            f"checkpoint {path} is unfinished, or was set aside as damaged; give another of its run"
        )
    if chosen is None and (config or (path / WEIGHTS).is_file()):
        return TimmFolder(path=path, config=config)
    checkpoint, encoder = chosen or run.latest_checkpoint(), run.encoder
    result = run.result if prefer_result else encoder if encoder.is_dir() else None
    if result and (prefer_result or checkpoint is None):
        return find_weights(result)
    if checkpoint is None or not Run(checkpoint.run_folder).exists:
        raise ValueError(
            "checkpoint must be a run's folder with a checkpoint in it, or a "
            f"folder of timm or transformers, got {path}"
        )
    return RunCheckpoint(path=path, checkpoint=checkpoint)


def _named_weights(named: Named) -> Origin:
    """Fetch the weights that a name stands for, and identify them."""
    folder = named.fetch()
    if named.tag is not None:
        return TimmFolder(path=folder, name=named.name, config=named.tag)
    config = folder_config(folder)
    kind = TransformersFolder if "model_type" in config else TimmFolder
    return kind(path=folder, name=named.name, config=config)


def _normalisation(described: Any) -> dict[str, list[float]]:
    """Return the "mean" and "std" that a configuration states, if it does."""
    try:
        return {name: [float(value) for value in described[name]] for name in ("mean", "std")}
    except (KeyError, TypeError, ValueError):
        return {}
