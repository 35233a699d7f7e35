"""The model card: what a model is, how it was made and what it scored; a README.md for the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import yaml
from huggingface_hub import ModelCardData

MAX_CLASSES = 50
"""A longer list of classes stays in the configuration."""


IMAGE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


KINDS = {
    "classifier": "An image classifier ({architecture}), fine-tuned from a pretrained encoder.",
    "encoder": "The encoder of a masked autoencoder: a vision transformer ({architecture}) without "
    "a head, for features or for fine-tuning.",
    "mae": "A masked autoencoder: a vision transformer ({architecture}) with the decoder it was "
    "pretrained with.",
}


SCRATCH = "An image classifier ({architecture}), trained on labels from scratch."


LOADING = {
    ("timm", "classifier"): """import timm
model = timm.create_model("{timm}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))""",
    ("transformers", "classifier"): """\
from transformers import AutoImageProcessor, AutoModelForImageClassification
processor = AutoImageProcessor.from_pretrained("{name}")
model = AutoModelForImageClassification.from_pretrained("{name}")""",
    ("transformers", "mae"): """from transformers import AutoImageProcessor, ViTMAEForPreTraining
processor = AutoImageProcessor.from_pretrained("{name}")
model = ViTMAEForPreTraining.from_pretrained("{name}")""",
    ("onnx", "classifier"): """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
(output,) = session.run(None, {{"images": images}})  # (N, C, H, W) float32, normalised""",
}


LOADING[("timm", "encoder")] = LOADING[("timm", "classifier")]


LOADING[("onnx", "encoder")] = LOADING[("onnx", "classifier")]


class Described(NamedTuple):
    """What a card tells of.

    `run` is the configuration of the run and `metrics` the lines of its metrics.jsonl; both are
    empty for a folder without its run.
    """

    kind: str
    """classifier, encoder or mae."""
    architecture: str
    """timm's name."""
    input_size: Sequence[int]
    """Channels, height, width."""
    mean: Sequence[float]
    std: Sequence[float]
    global_pool: str
    class_names: Sequence[str]
    run: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def model_card(model: Described, library: str, name: str, *, on_hub: bool) -> str:
    """The text of a README.md.

    Args:
        model: what to tell.
        library: timm, transformers or onnx.
        name: OWNER/NAME on the Hub, or the folder.
        on_hub: which of both.
    """
    is_scratch = model.run.get("checkpoint") == "none"
    data = ModelCardData(
        library_name=library,
        tags=["mae-et", *([] if is_scratch else ["masked-autoencoder"])],
        pipeline_tag="image-classification" if model.kind == "classifier" else None,
    )
    names = {"name": name, "timm": f"{'hf-hub' if on_hub else 'local-dir'}:{name}"}
    channels, height, width = model.input_size
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name.rpartition('/')[2]}",
        (SCRATCH if is_scratch else KINDS[model.kind]).format(architecture=model.architecture),
        f"```python\n{LOADING[library, model.kind].format(**names)}\n```",
        f"Images: {height} × {width} pixels, {channels} channel{'s' if channels > 1 else ''}"
        f"{_conversion(channels)}, normalised with "
        f"mean {_numbers(model.mean)} and standard deviation {_numbers(model.std)}.",
        *_about_transformers(model, library),
        *_classes(model.class_names),
        *_training(model),
        f"Made with {', '.join(_versions(library))}.",
    ]
    return "\n\n".join(parts) + "\n"


def _conversion(channels: int) -> str:
    if channels not in IMAGE_MODES:
        return ", unsigned numbers divided by the largest of their type, others as they are"
    return f' (`image.convert("{IMAGE_MODES[channels]}")`), values in 0 … 1'


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _about_transformers(model: Described, library: str) -> list[str]:
    if library != "transformers" or model.kind != "classifier":
        return []
    if model.global_pool == "token":
        return ["It is a `ViTForImageClassification`, which classifies the class token."]
    return [
        "It is a `BeitForImageClassification` with mean pooling and absolute positions: the same "
        "network, with patches averaged and then normalised. (`ViTForImageClassification` can "
        "classify the class token only. BEiT's missing key bias cancels in the softmax.)"
    ]


def _classes(class_names: Sequence[str]) -> list[str]:
    if not class_names:
        return []
    quoted = (f"`{' '.join(name.split())}`" for name in class_names)
    listed = ", ".join(quoted) if len(class_names) <= MAX_CLASSES else "see `config.json`"
    return [f"## Classes\n\n{len(class_names)}: {listed}"]


def _training(model: Described) -> list[str]:
    run = model.run
    if not run:
        return []
    images, parts = run.get("images", {}), ["## Training"]
    paths = [run["data"]["path"], *(part["path"] for part in run["data"].get("sources", ()))]
    lines = [f"Data: {', '.join(f'`{path}`' for path in paths if path)}"]
    if images:
        lines[0] += f", {images['train']} training images and {images['eval']} held-out ones"
    if run.get("checkpoint") not in (None, "none"):
        lines.append(f"Started from the weights of `{run['checkpoint']}`")
    parts.append("\n".join(f"- {line}" for line in lines))
    stages = _stages(model.metrics)
    if stages:
        rows = [f"| {size} | {first} to {last} |" for size, first, last in stages]
        parts.append("\n".join(["| input size | optimizer steps |", "|---|---|", *rows]))
    scores = _scores(model.metrics)
    if scores:
        parts.append(scores)
    config = yaml.safe_dump(dict(run), sort_keys=False)
    parts.append(f"The configuration of the run:\n\n```yaml\n{config}```")
    return parts


def _stages(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[Any, int, int]]:
    """(input size, first step, last step) of each stage; runs log where a stage ends."""
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


def _scores(metrics: Sequence[Mapping[str, Any]]) -> str:
    """A table of the last and the best evaluation."""
    lines = [line for line in metrics if line.get("eval_loss") is not None]
    if not lines:
        return ""

    def merit(line: Mapping[str, Any]) -> float:
        return float(line["top1"] if "top1" in line else -line["eval_loss"])

    evaluations = {"last": lines[-1], "best": max(reversed(lines), key=merit)}
    names = [name for name in lines[-1] if name not in ("step", "time")]
    head = f"| evaluation | step | {' | '.join(names)} |"
    rows = [
        f"| {label} | {line['step']} | {' | '.join(_score(line.get(name)) for name in names)} |"
        for label, line in evaluations.items()
    ]
    return "\n".join([head, "|---" * (len(names) + 2) + "|", *rows])


def _score(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _versions(library: str) -> list[str]:
    found = []
    for name in dict.fromkeys(("mae-et", "torch", "timm", library)):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a clone
            found.append(name)
    return found
