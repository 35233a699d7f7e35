"""Read the history of runs (stages, seconds, losses and scores), and find the runs in folders.

A run is pretraining, fine-tuning, or a probe of a frozen encoder (linear.json, knn.json).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..config import flatten, parse_json, read_text
from ..errors import check, check_depths
from .run import Run

Kind = Literal["pretraining", "fine-tuned", "linear", "knn"]


PROBES: tuple[Kind, ...] = ("linear", "knn")


PROBE_SETTINGS = ("k", "temperature", "data", "model", "probe", "images")
"""What the scores of a probe depend on beside its encoder."""


UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError)
"""The errors raised by files that are damaged, or of another program."""


MOST_STAGES = 1000
"""The most stages of a run that is reported."""


LONGEST_TEXT = 4096
"""The most characters of a text in a configuration; no path is longer."""


SHOWN: dict[str, type] = {
    **dict.fromkeys(("checkpoint", "data.path", "eval.path", "model.target"), str),
    **dict.fromkeys(("optim.batch_size", "run.seed", "images.train", "images.eval"), int),
    **dict.fromkeys(("train_images", "test_images", "k"), int),
}
"""The types of what reports compute with or show, if it is given; in scores, the last three."""


class Window(NamedTuple):
    """The steps between two lines of metrics.jsonl."""

    size: str
    """Input size in pixels: 20, or 20×28 (height by width)."""
    steps: int
    seconds: float
    waited: float
    """Seconds spent waiting for images."""
    ended: float
    """Seconds of training up to the end of the window."""
    loss: float


class TrainedStage(NamedTuple):
    """Consecutive windows of one input size."""

    size: str
    steps: int
    seconds: float
    images_per_s: float
    data_wait: float
    """Share of the seconds spent waiting for images, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What a run's folder says about the run.

    Args:
        folder: The absolute path of the folder.
        kind: The kind of run.
        config: The configuration, nested as in config.yaml; for a probe, `PROBE_SETTINGS`.
        is_complete: Whether the run has written what it learned.
        checkpoint: The weights that it started from; None for new ones.
        top1: Accuracies in [0, 1] by kind. Of several evaluations, the last counts: the best was
            chosen by looking at the images that it is measured on.
        images: Numbers of (training, held-out) images.
        metrics: The lines of the run's metrics.
    """

    folder: Path
    kind: Kind
    config: dict[str, Any]
    is_complete: bool
    checkpoint: str | None
    top1: dict[Kind, float]
    images: tuple[int | None, int | None]
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The configuration by dotted names, with the checkpoint only in pretraining."""
        fields = flatten(self.config)
        if self.kind != "pretraining":
            fields.pop("checkpoint", None)
        if "images.digest" in fields:  # without that of the labels, which data.label_seed chooses
            fields["images.digest"] = "-".join(str(fields["images.digest"]).split("-")[:2])
        return fields

    @cached_property
    def windows(self) -> list[Window]:
        """The windows in order, with every step in one of them.

        Steps that a kill left out of metrics.jsonl are taken to last as long as those of the next
        window, which then has fewer images than its steps.
        """
        windows: list[Window] = []
        done, ended = 0, 0.0
        for line in self.metrics:
            if "loss" in line:
                steps = line["step"] - done
                size = _size(line["size"])
                share = steps * self.images_per_step(size) / line["images"]
                seconds = line["seconds"] * share
                done, ended = line["step"], ended + seconds
                waited = seconds * line["data_wait"]
                loss = _number(line["loss"])
                windows.append(Window(size, steps, seconds, waited, ended, loss))
        return windows

    def images_per_step(self, size: str) -> int:
        """Return the images of a step at a size, over all processes."""
        optim = self.config["optim"]
        times = {_size(part["size"]): part["times"] for part in optim.get("early_batch", ())}
        return int(optim["batch_size"] * times.get(size, 1))

    @property
    def stages(self) -> list[TrainedStage]:
        """The stages in order of training."""
        stages = []
        for size, group in groupby(self.windows, key=lambda window: window.size):
            windows = list(group)
            steps = sum(window.steps for window in windows)
            seconds = sum(window.seconds for window in windows)
            images = steps * self.images_per_step(size)
            waited = sum(window.waited for window in windows)
            stages.append(TrainedStage(size, steps, seconds, images / seconds, waited / seconds))
        return stages

    @property
    def seconds(self) -> float:
        """Seconds of training, without evaluations and checkpoints."""
        return self.windows[-1].ended if self.windows else 0.0

    @property
    def eval_losses(self) -> list[tuple[float, float]]:
        """Pairs (seconds of training so far, loss of the held-out images), one per evaluation."""
        steps = [0, *accumulate(window.steps for window in self.windows)]
        ends = [0.0, *(window.ended for window in self.windows)]
        return [
            (float(np.interp(line["step"], steps, ends)), line["eval_loss"])
            for line in self.metrics
            if line.get("eval_loss") is not None
        ]


def find_runs(paths: Sequence[str]) -> tuple[list[RunHistory], list[tuple[Path, str]]]:
    """Find the runs in folders that are runs or hold them, one or two levels down.

    Args:
        paths: The folders.

    Returns:
        The runs, each once, and (folder, reason) for each folder that was skipped.

    Raises:
        ValueError: A folder does not exist, or none holds a run.
    """
    runs: dict[tuple[Path, str], RunHistory] = {}
    skipped: dict[Path, str] = {}
    for path in paths:
        check(Path(path).is_dir(), "RUN", path, "a folder")
        for folder in _run_folders(Path(path).resolve(), skipped):
            try:
                runs |= {(run.folder, run.kind): run for run in _read(folder)}
            except UNREADABLE as error:
                reason = error if isinstance(error, ValueError | OSError) else repr(error)
                skipped[folder] = " ".join(f"can't be read: {reason}".split())
    if not runs:
        reasons = "; ".join(f"{folder} {reason}" for folder, reason in skipped.items())
        raise ValueError(f"no runs found in {', '.join(paths)} ({reasons})")
    return list(runs.values()), list(skipped.items())


def _run_folders(path: Path, skipped: dict[Path, str], depth: int = 2) -> list[Path]:
    """Return the run folders at or under a path; note folders without any as skipped."""
    if Run(path).exists or any(probe_file(path, kind).is_file() for kind in PROBES):
        return [path]
    without: dict[Path, str] = {}
    try:
        children = sorted(child for child in path.iterdir() if child.is_dir()) if depth else []
    except OSError as error:
        skipped[path] = f"can't be read: {error}"
        return []
    found = [run for child in children for run in _run_folders(child, without, depth - 1)]
    skipped |= without if found else {path: "holds no run"}
    return found


def probe_file(folder: Path, kind: str) -> Path:
    """Return the file with the scores of a probe, linear or knn, in its output folder."""
    return folder / f"{kind}.json"


def _read(folder: Path) -> Iterator[RunHistory]:
    """Read the runs of a folder: one that trained, or the probes of an encoder."""
    if Run(folder).exists:
        yield _read_training(Run(folder))
    for kind in PROBES:
        file = probe_file(folder, kind)
        if file.is_file():
            scores = parse_json(read_text(file, within=folder))
            _check_fields(scores, file)
            # Older probes tell no data, so that none is known to be of the same as another.
            shown = str(folder).encode(errors="replace").decode()
            config: dict[str, Any] = {"data": f"unknown, in {shown}"}
            config |= {name: scores[name] for name in PROBE_SETTINGS if name in scores}
            top1 = scores["top1"]
            check(isinstance(top1, int | float) and 0 <= top1 <= 1, "top1", top1, "in [0, 1]")
            yield RunHistory(
                folder=folder,
                kind=kind,
                config=config,
                is_complete=True,
                checkpoint=scores["checkpoint"],
                top1={kind: float(scores["top1"])},
                images=(scores.get("train_images"), scores.get("test_images")),
            )


def _read_training(run: Run) -> RunHistory:
    """Read a run that trained."""
    config, metrics = run.read_config(), run.read_metrics()
    _check_fields(config, run.config_file)
    check_depths("model", config["model"])
    check_depths("model.encoder_args", config["model"].get("encoder_args") or {})
    kind: Kind = "pretraining" if "decoder_dim" in config["model"] else "fine-tuned"
    result = run.encoder if kind == "pretraining" else run.last
    last = {name: value for line in metrics for name, value in line.items()}
    names: dict[Kind, str] = {probe: f"{probe}_top1" for probe in PROBES}
    if kind == "fine-tuned":
        names = {kind: "top1"}
    images = config.get("images", {})
    history = RunHistory(
        folder=run.folder,
        kind=kind,
        config=config,
        is_complete=bool(metrics) and result.is_dir(),
        checkpoint=config.get("checkpoint"),
        top1={what: last[name] for what, name in names.items() if last.get(name) is not None},
        images=(images.get("train"), images.get("eval")),
        metrics=metrics,
    )
    stages, _ = history.stages, history.eval_losses  # raises now if the lines are damaged
    check(len(stages) <= MOST_STAGES, "the number of stages", len(stages), f"at most {MOST_STAGES}")
    return history


def _check_fields(values: dict[str, Any], file: Path) -> None:
    """Check that what is read from a file can be computed with and shown.

    Raises:
        ValueError: It can't; the message names the field.
    """
    for name, value in flatten(values).items():
        kind = SHOWN.get(name)
        ok = kind is None or value is None or (isinstance(value, kind) and value is not True)
        check(ok, f"{name} in {file}", f"{value!r:.80}", f"of type {kind and kind.__name__}")
        for text in value if isinstance(value, list) else [value]:
            ok = not isinstance(text, str) or (len(text) <= LONGEST_TEXT and _is_plain(text))
            check(ok, f"{name} in {file}", f"{text!r:.80}", "a text without control characters")
    size = flatten(values).get("optim.batch_size", 1)
    check(0 < size < 2**40, f"optim.batch_size in {file}", size, "above 0")


def _is_plain(text: str) -> bool:
    """Return whether a text has neither control characters nor halves of characters."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _size(size: int | list[int]) -> str:
    sides = size if isinstance(size, list) else [size]
    return "×".join(str(int(side)) for side in sides)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)  # JSON has no NaN
