"""Export what a run has learned as a folder for timm, transformers or ONNX, with a model card.

A pretraining run exports its encoder (for transformers, the whole masked autoencoder of the last
checkpoint); a fine-tuning run exports its best classifier.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from ..errors import RunStoppedError, check, check_depths, first_line
from ..runs import Run, new_folder
from .files import folder_config, read_weights
from .loading import load_mae_checkpoint
from .model_card import Described, model_card
from .origin import RunCheckpoint, TimmFolder, find_weights
from .timm_folder import export_encoder, open_timm_folder
from .to_onnx import save_onnx
from .to_transformers import (
    Converted,
    image_processor,
    save_transformers,
    to_classifier,
    to_vit_mae,
)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The encoder or classifier that is exported, and where it comes from.

    Args:
        folder: The encoder or classifier, as a timm folder.
        config: The contents of its config.json.
        run: The run it comes from; None if the folder belongs to none.
        mae: The run or the checkpoint that has the decoder too; None if there is none.
    """

    folder: Path
    config: dict[str, Any]
    run: Run | None
    mae: Path | None

    @property
    def is_classifier(self) -> bool:
        """Whether the model has a classification head."""
        return bool(self.config["num_classes"])

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by number; empty for an encoder."""
        numbers = range(self.config["num_classes"])
        return list(self.config.get("label_names") or [f"LABEL_{number}" for number in numbers])


def find_exported(path: Path, scratch: Path) -> Exported:
    """Find what there is to export in a run's folder or a timm folder.

    Args:
        path: The folder.
        scratch: An empty folder for the encoder of a run that has not ended.

    Raises:
        ValueError: The folder is neither, or the run has nothing to export yet.
    """
    run = Run.of(path)
    if run is None and not (path / "config.json").is_file():
        raise ValueError(
            f"--checkpoint must be a run's folder, its encoder or its classifier, got {path}"
        )
    origin = find_weights(path, prefer_result=True)
    if isinstance(origin, TimmFolder):
        mae = run.folder if run else None
        return _check(Exported(folder=origin.path, config=origin.config, run=run, mae=mae))
    if not isinstance(origin, RunCheckpoint) or run is None:
        raise ValueError(f"--checkpoint must have a config.json of timm, got {path}")
    model = load_mae_checkpoint(path)
    data, folder = run.section("data"), scratch / "encoder"
    for name in ("mean", "std"):
        values: Any = data.get(name)
        ok = isinstance(values, list) and len(values) == model.in_chans
        ok = ok and all(isinstance(value, int | float) for value in values)
        check(ok, f"data.{name}", values, f"{model.in_chans} numbers in {run.config_file}")
    export_encoder(model, folder, mean=data["mean"], std=data["std"])
    return _check(Exported(folder=folder, config=folder_config(folder), run=run, mae=path))


def _check(exported: Exported) -> Exported:
    folder, config = exported.folder, exported.config
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
    read_weights(folder / "model.safetensors")  # raises its errors before a copy gets a card
    if ":" in config["architecture"]:
        raise ValueError(
            f"--checkpoint must be a model of timm's, which others can build, got {folder} with "
            f"{config['architecture']}"
        )
    return exported


def write_timm(exported: Exported, folder: Path) -> None:
    """Copy the timm folder unchanged."""
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(exported.folder / name, folder / name)


def write_transformers(exported: Exported, folder: Path) -> None:
    """Write the classifier, or the whole masked autoencoder, with its image processor."""
    preprocessing = exported.config["pretrained_cfg"]
    crop_pct = preprocessing.get("crop_pct", 1.0) if exported.is_classifier else 1.0
    processor = image_processor(
        size=preprocessing["input_size"][-1],
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        crop_pct=crop_pct,
    )
    save_transformers(_converted(exported), processor, folder)


def _converted(exported: Exported) -> Converted:
    if exported.is_classifier:
        model = open_timm_folder(exported.folder)
        if type(model) is not VisionTransformer:
            raise ValueError(
                "--format transformers needs a plain timm VisionTransformer, got "
                f"{exported.config['architecture']}"
            )
        return to_classifier(model, exported.class_names)
    if exported.mae is None:
        raise ValueError(
            "--checkpoint must be the pretraining run for --format transformers, which takes the "
            f"decoder too, got the encoder {exported.folder} alone"
        )
    return to_vit_mae(load_mae_checkpoint(exported.mae))


def write_onnx(exported: Exported, folder: Path) -> None:
    """Write model.onnx, and timm's config.json for the class names, mean, deviation and size."""
    input_size = exported.config["pretrained_cfg"]["input_size"]
    save_onnx(open_timm_folder(exported.folder), input_size, folder)
    shutil.copyfile(exported.folder / "config.json", folder / "config.json")


FORMATS: dict[str, Callable[[Exported, Path], None]] = {
    "timm": write_timm,
    "transformers": write_transformers,
    "onnx": write_onnx,
}


def export(path: Path, library: str, out: Path, repository: str | None = None) -> None:
    """Write an exported folder: complete under a temporary name, then renamed into place.

    Args:
        path: A run's folder, or a timm folder.
        library: The library that will open it: timm, transformers or onnx.
        out: A new or empty folder.
        repository: OWNER/NAME on the Hub, for the card; None if the folder stays local.

    Raises:
        ValueError: There is nothing to export, `out` is in use, a package is missing, or the format
            cannot express the model.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out must be a new or an empty folder, got {out}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            exported = find_exported(path.resolve(), Path(scratch))
            with new_folder(out) as folder:
                FORMATS[library](exported, folder)
                card = model_card(
                    describe(exported, library),
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


def describe(exported: Exported, library: str) -> Described:
    """Return what the card says about a model."""
    encoder = "mae" if library == "transformers" else "encoder"
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
