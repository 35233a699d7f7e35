"""Find what there is to export: an encoder or classifier, with its decoder, run and licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import check, check_depths
from ..runs import Run
from .by_name import WEIGHTS, Named
from .files import folder_config, read_weights
from .licence import Source, find_source, licence_of_folder, licence_of_named
from .loading import load_masked
from .origin import Origin, RunCheckpoint, TimmFolder, TransformersFolder, find_weights
from .timm_folder import build_timm_model, export_encoder


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The encoder or classifier that is exported, and where it comes from.

    Args:
        folder: The encoder or classifier, as a timm folder.
        config: The contents of its config.json.
        run: The run it comes from; None if the folder belongs to none.
        mae: The run or the checkpoint that has the decoder too; None if there is none.
        source: Whose weights they are, or started from; None if all began with new ones.
        licence: The licence that their owner has stated; None if there is none.
    """

    folder: Path
    config: dict[str, Any]
    run: Run | None
    mae: str | Path | None
    source: Source | None = None
    licence: str | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether the model has a classification head."""
        return bool(self.config["num_classes"])

    def build(self) -> nn.Module:
        """Build the model with its weights."""
        return build_timm_model(self.config, read_weights(self.folder / WEIGHTS), self.folder)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by number; empty for an encoder."""
        numbers = range(self.config["num_classes"])
        return list(self.config.get("label_names") or [f"LABEL_{number}" for number in numbers])


def find_exported(path: str | Path, scratch: Path) -> Exported:
    """Find what there is to export in a run's folder, a timm folder, or under a name.

    Args:
        path: The folder, or a name; see `find_weights`.
        scratch: An empty folder for the encoder of a run that has not ended.

    Raises:
        ValueError: The folder is neither, or the run has nothing to export yet.
    """
    named = Named.of(path)
    run = Run.of(Path(path)) if named is None else None
    if run is None and named is None and not (Path(path) / "config.json").is_file():
        raise ValueError(
            f"--checkpoint must be a run's folder, its encoder or its classifier, got {path}"
        )
    origin = find_weights(path, prefer_result=True)
    if run is not None:
        licence, source = None, find_source(run.read_config().get("checkpoint"))
    elif named is not None:
        source = Source(named.name, named.repository, licence_of_named(named))
        licence = source.licence
    else:
        licence, source = licence_of_folder(origin.path, getattr(origin, "config", None)), None
    mae: str | Path | None = path
    if isinstance(origin, TimmFolder):
        folder, config, mae = origin.path, origin.config, run.folder if run else None
    else:
        folder = scratch / "encoder"
        _write_encoder(origin, path, folder)
        config = folder_config(folder)
    found = Exported(folder=folder, config=config, run=run, mae=mae, source=source, licence=licence)
    return _check(found, origin.shown)


def _write_encoder(origin: Origin, path: str | Path, folder: Path) -> None:
    """Write the encoder of a masked autoencoder as a timm folder.

    Raises:
        ValueError: The checkpoint is no masked autoencoder, or does not tell mean and deviation.
    """
    if not isinstance(origin, RunCheckpoint | TransformersFolder):
        raise ValueError(f"--checkpoint must have a config.json of timm, got {path}")
    model, told = load_masked(path), origin.normalisation
    prefix, at = "image_", origin.path / "preprocessor_config.json"
    if isinstance(origin, RunCheckpoint):
        prefix, at = "data.", Run(origin.checkpoint.run_folder).config_file
    for name in ("mean", "std"):
        label, values = prefix + name, told.get(name)
        ok = values is not None and len(values) == model.in_chans
        check(ok, label, values, f"{model.in_chans} numbers in {at}")
    export_encoder(model, folder, **told)


def _check(exported: Exported, folder: str) -> Exported:
    config = exported.config
    if not {"architecture", "num_classes", "pretrained_cfg"} <= config.keys():
        raise ValueError(f"--checkpoint must have a config.json of timm, got {folder}")
    check_depths("model_args", config.get("model_args") or {})
    number, most = config["num_classes"], 10**6
    ok = isinstance(number, int) and 0 <= number <= most
    check(ok, f"num_classes in {folder}", number, f"in [0, {most:,}]")
    names = config.get("label_names")
    if names is not None:
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        got = len(names) if is_list else f"label_names {names!r}"[:80]
        if got != config["num_classes"]:
            raise ValueError(
                f"--checkpoint {folder} must name its {config['num_classes']} classes, got {got}"
            )
    read_weights(exported.folder / WEIGHTS)  # raises its errors before a copy gets a card
    if ":" in config["architecture"]:
        raise ValueError(
            f"--checkpoint must be a model of timm's, which others can build, got {folder} with "
            f"{config['architecture']}"
        )
    return exported
