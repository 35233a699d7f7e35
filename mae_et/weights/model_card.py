"""The model card of an export: its README.md, which the Hub shows.

The text is in `model_card.md.jinja`; this module finds what the text needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import timm
import yaml
from huggingface_hub import ModelCard, ModelCardData

from .licence import Source

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


MAX_CLASSES = 50
"""With more classes than this, their names are left to the configuration."""


IMAGE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for a number of channels."""


class Described(NamedTuple):
    """What a card says about a model.

    `run` is the configuration of the run and `metrics` the lines of its metrics.jsonl; both are
    empty for a folder without its run.
    """

    kind: str
    """One of classifier, encoder and mae."""
    architecture: str
    """timm's name for the model."""
    input_size: Sequence[int]
    """Channels, height, width."""
    mean: Sequence[float]
    std: Sequence[float]
    global_pool: str
    class_names: Sequence[str]
    run: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    source: Source | None = None
    """Whose weights they are, or started from; None if all began with new ones."""
    licence: str | None = None
    """The licence that their owner has stated; None if there is none."""
    transformers_class: str = ""
    """The name of its class in transformers; empty for another library."""


def model_card(model: Described, library: str, name: str, *, on_hub: bool) -> str:
    """Write the text of a README.md.

    Args:
        model: What the card says.
        library: "timm", "transformers" or "onnx".
        name: OWNER/NAME on the Hub, or the path of the folder.
        on_hub: Whether `name` is a name on the Hub.

    Raises:
        ValueError: Jinja2 is missing.
    """
    is_scratch = model.run.get("checkpoint") == "none"
    data = model.run.get("data", {})
    sources = [data, *data.get("sources", ())]
    evaluations = _evaluations(model.metrics)
    values = model._asdict() | {
        "name": name,
        "on_hub": on_hub,
        "is_scratch": is_scratch,
        "is_ours": _is_ours(model.architecture),
        "image_mode": IMAGE_MODES.get(model.input_size[0]),
        "class_names": [" ".join(label.split()) for label in model.class_names],
        "max_classes": MAX_CLASSES,
        "data_paths": [source["path"] for source in sources if source.get("path")],
        "stages": _stages(model.metrics),
        "evaluations": evaluations,
        "scores": [key for key in evaluations.get("last", ()) if key not in ("step", "time")],
        "configuration": yaml.safe_dump(dict(model.run), sort_keys=False),
        "versions": _versions(library),
    }
    header = ModelCardData(
        license=model.licence,
        base_model=model.source.repository if model.source and model.run else None,
        library_name=library,
        tags=["mae-et", *([] if is_scratch else ["masked-autoencoder"])],
        pipeline_tag="image-classification" if model.kind == "classifier" else None,
    )
    try:
        card = ModelCard.from_template(header, template_path=str(TEMPLATE), **values)
    except ImportError as error:
        raise ValueError("export needs jinja2: pip install jinja2") from error
    return f"{card}\n"


def _is_ours(architecture: str) -> bool:
    """Return whether a model is one of this package's networks, which it registers with timm."""
    if not timm.is_model(architecture):
        return False
    module: str = timm.model_entrypoint(architecture).__module__
    return module.startswith("mae_et.")


def _stages(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[Any, int, int]]:
    """Return (input size, first step, last step) of each stage; runs log where a stage ends."""
    stages: list[tuple[Any, int, int]] = []
    done = 0
    for line in metrics:
        if "size" not in line:
            continue
        if stages and stages[-1][0] == line["size"]:
            stages[-1] = (line["size"], stages[-1][1], line["step"])
        else:
            stages.append((line["size"], done + 1, line["step"]))
        done = line["step"]
    return stages


def _evaluations(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the lines of the last and the best evaluation; empty without evaluations."""
    lines = [line for line in metrics if line.get("eval_loss") is not None]
    if not lines:
        return {}

    def merit(line: Mapping[str, Any]) -> float:
        return float(line["top1"] if "top1" in line else -line["eval_loss"])

    return {"last": lines[-1], "best": max(reversed(lines), key=merit)}


def _versions(library: str) -> list[str]:
    found = []
    for name in dict.fromkeys(("mae-et", "torch", "timm", library)):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a clone
            found.append(name)
    return found
