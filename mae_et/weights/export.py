"""Export what a run has learned as a folder for timm, transformers or ONNX, with a model card.

A pretraining run exports its encoder (for transformers, a plain ViT with the decoder of the last
checkpoint); a fine-tuning run exports its best classifier.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from timm.models.vision_transformer import VisionTransformer

from ..errors import RunStoppedError, first_line
from ..runs import new_folder
from .backbones import check_same, to_backbone
from .by_name import WEIGHTS, Named
from .exported import Exported, find_exported
from .loading import load_masked
from .model_card import Described, model_card
from .to_onnx import save_onnx
from .to_transformers import (
    VIT_MAE,
    Converted,
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)

log = logging.getLogger(__name__)


def write_timm(exported: Exported, folder: Path) -> str:
    """Copy the weights unchanged, with their config.json."""
    shutil.copyfile(exported.folder / WEIGHTS, folder / WEIGHTS)
    _write_config(exported, folder)
    return ""


def _write_config(exported: Exported, folder: Path) -> None:
    """Write timm's config.json, with the licence that the card states and no other."""
    described = {k: v for k, v in exported.config["pretrained_cfg"].items() if k != "license"}
    if exported.licence is not None:
        described["license"] = exported.licence
    config = {**exported.config, "pretrained_cfg": described}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def write_transformers(exported: Exported, folder: Path) -> str:
    """Write the model with its image processor, and return the name of its class.

    Of a plain ViT that is the classifier or the whole masked autoencoder, and of other networks the
    classifier or the encoder, which is compared with the network.
    """
    preprocessing, network = exported.config["pretrained_cfg"], exported.build()
    height, size = preprocessing["input_size"][1:]
    is_vit = type(network) is VisionTransformer
    if is_vit:
        converted = _converted_vit(exported, network)
    elif height != size:
        raise ValueError(
            f"transformers can't express oblong images ({height}, {size}) of a "
            f"{type(network).__name__}; export to timm or onnx instead"
        )
    else:
        converted = to_backbone(network, exported.class_names, size)
    is_mae = converted.architecture == VIT_MAE
    processor = image_processor(
        size=size,
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        crop_pct=1.0 if is_mae else preprocessing.get("crop_pct", 1.0),
    )
    save_transformers(converted, processor, folder)
    if not is_vit:
        check_same(network, converted, folder, size)
    return converted.architecture


def _converted_vit(exported: Exported, vit: VisionTransformer) -> Converted:
    if exported.is_classifier:
        return to_classifier(vit, exported.class_names)
    if exported.mae is None:
        raise ValueError(
            "--checkpoint must be the pretraining run for --format transformers of a ViT, which "
            f"takes the decoder too, got the encoder {exported.folder} alone"
        )
    return to_vit_mae(load_masked(exported.mae))


def write_onnx(exported: Exported, folder: Path) -> str:
    """Write model.onnx, and timm's config.json for the class names, mean, deviation and size."""
    input_size = exported.config["pretrained_cfg"]["input_size"]
    save_onnx(exported.build(), input_size, folder)
    _write_config(exported, folder)
    return ""


FORMATS: dict[str, Callable[[Exported, Path], str]] = {
    "timm": write_timm,
    "transformers": write_transformers,
    "onnx": write_onnx,
}
"""Library -> what writes a folder for it, and returns the name of its class in transformers."""


def export(
    path: str | Path,
    library: str,
    out: Path,
    repository: str | None = None,
    licence: str | None = None,
) -> None:
    """Write an exported folder: complete under a temporary name, then renamed into place.

    Args:
        path: A run's folder, a timm folder, or a name; see `find_weights`.
        library: The library that will open it: timm, transformers or onnx.
        out: A new or empty folder.
        repository: OWNER/NAME on the Hub, for the card; None if the folder stays local.
        licence: The licence under which its owner gives it away; None for that of weights that are
            exported as they are, if they have one, and else for none.

    Raises:
        ValueError: There is nothing to export, `out` is in use, a package is missing, or the format
            cannot express the model.
    """
    out, path = out.resolve(), path if Named.of(path) else Path(path).resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out must be a new or an empty folder, got {out}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            exported = find_exported(path, Path(scratch))
            exported = replace(exported, licence=licence or exported.licence)
            with new_folder(out) as folder:
                transformers_class = FORMATS[library](exported, folder)
                card = model_card(
                    describe(exported, transformers_class),
                    library,
                    repository or str(out),
                    on_hub=bool(repository),
                )
                (folder / "README.md").write_text(card)
        except (OSError, RunStoppedError) as error:
            raise ValueError(f"--out must be a folder to write in, got {out} ({error})") from error
        except (KeyError, TypeError, AttributeError, IndexError) as error:  # values of other types
            raise ValueError(
                f"--checkpoint {path} has a damaged config.json or config.yaml "
                f"({type(error).__name__} {first_line(error)})"
            ) from error
    _warn_of_terms(exported)


def _warn_of_terms(exported: Exported) -> None:
    """Warn if weights of others bind the owner to terms that the card does not state as its own."""
    source, stated = exported.source, exported.licence
    if source is None or (source.licence is not None and source.licence == stated):
        return
    started = "are those of" if exported.run is None else "started from"
    terms = f"which is under {source.licence}" if source.licence else "whose licence is not known"
    log.warning(
        "the weights %s %s, %s here; the card says so, and states %s for the export (--license)",
        started,
        source.name,
        terms,
        stated or "no licence",
    )


def describe(exported: Exported, transformers_class: str) -> Described:
    """Return what the card says about a model."""
    encoder = "mae" if transformers_class == VIT_MAE else "encoder"
    preprocessing = exported.config["pretrained_cfg"]
    return Described(
        kind="classifier" if exported.is_classifier else encoder,
        architecture=exported.config["architecture"],
        input_size=preprocessing["input_size"],
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        global_pool=exported.config.get("global_pool", ""),
        class_names=exported.class_names,
        run=exported.run.read_config() if exported.run else {},
        metrics=exported.run.read_metrics() if exported.run else [],
        source=exported.source,
        licence=exported.licence,
        transformers_class=transformers_class,
    )


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to the Hub, and return the address of the repository.

    Args:
        folder: The folder.
        repository: OWNER/NAME; created if it does not exist.
        private: Whether a newly created repository is private.

    Raises:
        ValueError: The Hub refuses: no token, no network, no such owner.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Upload by mae-et"
        )
    except Exception as error:  # the Hub client's errors, the network library's, or the system's
        raise ValueError(
            f"--push_to_hub {repository} failed ({type(error).__name__}: {error}); the folder "
            f"{folder} is written: `hf auth login`, then `hf upload {repository} {folder}`"
        ) from error
    return str(address)
