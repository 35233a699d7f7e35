"""Handing on what a run has learned: a folder for timm, transformers or ONNX, with a model card.

    python -m mae_et export --checkpoint RUN --format transformers --out DIR

RUN is a pretraining run (its encoder; for transformers the whole masked autoencoder of the last
checkpoint), a fine-tuning run (its best classifier), or one of their timm folders.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from ..errors import RunStoppedError
from ..runs import new_folder, read_config, read_metrics
from .files import folder_config, read_weights
from .model_card import Described, model_card
from .origin import load_mae_checkpoint
from .timm_folder import export_encoder, handed_on, open_timm_folder
from .to_onnx import save_onnx
from .to_transformers import (
    Converted,
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported.

    Args:
        folder: the encoder or classifier, as a timm folder.
        config: its config.json.
        run: the folder of its run; None if it lies elsewhere.
    """

    folder: Path
    config: dict[str, Any]
    run: Path | None

    @property
    def is_classifier(self) -> bool:
        """Whether it has a head."""
        return bool(self.config["num_classes"])

    @property
    def class_names(self) -> list[str]:
        """By class number; empty for an encoder."""
        numbers = range(self.config["num_classes"])
        return list(self.config.get("label_names") or [f"LABEL_{number}" for number in numbers])


def find_source(path: Path, scratch: Path) -> Source:
    """What a run's folder, or a timm folder, holds to be exported.

    Args:
        path: the folder.
        scratch: an empty folder, for the encoder of a run that has not ended.

    Raises:
        ValueError: the folder is neither, or the run has nothing to hand on yet.
    """
    if (path / "config.json").is_file():
        run = path.parent if (path.parent / "config.yaml").is_file() else None
        return _timm_source(path, run)
    if not (path / "config.yaml").is_file():
        raise ValueError(
            f"--checkpoint must be a run's folder, its encoder or its classifier, got {path}"
        )
    if handed_on(path) != path:
        return _timm_source(handed_on(path), path)
    model = load_mae_checkpoint(path)  # an error of one line if there is no checkpoint either
    data, folder = read_config(path)["data"], scratch / "encoder"
    export_encoder(model, folder, mean=data["mean"], std=data["std"])
    return _timm_source(folder, path)


def _timm_source(folder: Path, run: Path | None) -> Source:
    config = folder_config(folder)
    if not {"architecture", "num_classes", "pretrained_cfg"} <= config.keys():
        raise ValueError(f"--checkpoint must have a config.json of timm, got {folder}")
    names = config.get("label_names")
    if names is not None and len(names) != config["num_classes"]:
        raise ValueError(
            f"--checkpoint {folder} must name its {config['num_classes']} classes, got {len(names)}"
        )
    read_weights(folder / "model.safetensors")  # its errors, before a copy has a card
    if ":" in config["architecture"]:
        raise ValueError(
            f"--checkpoint must be a model of timm's, which others can build, got {folder} with "
            f"{config['architecture']}"
        )
    return Source(folder=folder, config=config, run=run)


def write_timm(source: Source, folder: Path) -> None:
    """The timm folder, as it is."""
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source.folder / name, folder / name)


def write_transformers(source: Source, folder: Path) -> None:
    """The classifier, or the whole masked autoencoder, with its image processor."""
    preprocessing = source.config["pretrained_cfg"]
    crop_pct = preprocessing.get("crop_pct", 1.0) if source.is_classifier else 1.0
    processor = image_processor(
        size=preprocessing["input_size"][-1],
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        crop_pct=crop_pct,
    )
    save_transformers(_converted(source), processor, folder)


def _converted(source: Source) -> Converted:
    if source.is_classifier:
        model = open_timm_folder(source.folder)
        if type(model) is not VisionTransformer:
            raise ValueError(
                "--format transformers needs a plain timm VisionTransformer, got "
                f"{source.config['architecture']}"
            )
        return to_classifier(model, source.class_names)
    if source.run is None:
        raise ValueError(
            "--checkpoint must be the pretraining run for --format transformers, which takes the "
            f"decoder too, got the encoder {source.folder} alone"
        )
    return to_vit_mae(load_mae_checkpoint(source.run))


def write_onnx(source: Source, folder: Path) -> None:
    """model.onnx, and timm's config.json for class names, mean, deviation and size."""
    input_size = source.config["pretrained_cfg"]["input_size"]
    save_onnx(open_timm_folder(source.folder), input_size, folder)
    shutil.copyfile(source.folder / "config.json", folder / "config.json")


FORMATS: dict[str, Callable[[Source, Path], None]] = {
    "timm": write_timm,
    "transformers": write_transformers,
    "onnx": write_onnx,
}


def export(path: Path, library: str, out: Path, repository: str | None = None) -> None:
    """Write a folder, beside its place and renamed.

    Args:
        path: a run's folder, or a timm folder.
        library: timm, transformers or onnx.
        out: new or empty.
        repository: OWNER/NAME on the Hub, for the card; None if it stays here.

    Raises:
        ValueError: there is nothing to export, `out` is in use, a package is missing, or the format
            can't express the model.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out must be a new or an empty folder, got {out}")
    with tempfile.TemporaryDirectory() as scratch:
        source = find_source(path.resolve(), Path(scratch))
        try:
            with new_folder(out) as folder:
                FORMATS[library](source, folder)
                card = model_card(
                    describe(source, library),
                    library,
                    repository or str(out),
                    on_hub=bool(repository),
                )
                (folder / "README.md").write_text(card)
        except (OSError, RunStoppedError) as error:
            raise ValueError(f"--out must be a folder to write in, got {out} ({error})") from error


def describe(source: Source, library: str) -> Described:
    """What the card tells of a model."""
    encoder = "mae" if library == "transformers" else "encoder"
    preprocessing = source.config["pretrained_cfg"]
    return Described(
        kind="classifier" if source.is_classifier else encoder,
        architecture=source.config["architecture"],
        input_size=preprocessing["input_size"],
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        global_pool=source.config.get("global_pool", ""),
        class_names=source.class_names,
        run=read_config(source.run) if source.run else {},
        metrics=read_metrics(source.run) if source.run else [],
    )


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to the Hub; the address of the repository, which is made if need be.

    Raises:
        ValueError: the Hub does not take it: no token, no network, no such owner.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Upload by mae-et"
        )
    except Exception as error:  # its own errors, the network library's, or the system's
        raise ValueError(
            f"--push_to_hub {repository} failed ({type(error).__name__}: {error}); the folder "
            f"{folder} is written: `hf auth login`, then `hf upload {repository} {folder}`"
        ) from error
    return str(address)
