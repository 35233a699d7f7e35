"""The folder of a run: where everything is kept, and how it is read.

    RUN/config.yaml        the resolved configuration
    RUN/metrics.jsonl      a line per log step and per evaluation
    RUN/classes.json       the names of the classes by number, in fine-tuning
    RUN/bad_images.txt     images that could not be decoded: name, tab, reason
    RUN/checkpoints/       see `checkpoints`
    RUN/encoder/           after pretraining: a folder that plain timm opens
    RUN/best/, RUN/last/   from fine-tuning: the same, with the names of the classes

No other module spells out these names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config import Resume, check_within, parse_json, read_text, read_yaml
from .atomic import write_text
from .checkpoints import Checkpoint, list_checkpoints, sound_checkpoint
from .metrics import read_metrics

WRITTEN = frozenset(
    {
        *(".lock", "config.yaml", "metrics.jsonl", "bad_images.txt", "checkpoints", "mae-et"),
        "classes.json",
        *("encoder", "best", "last", "predictions.parquet", "report.json", "confusion.png"),
    }
)
"""What a run writes in its folder, also under these names with .tmp or .old.tmp behind them."""


MOST_BYTES = 2**26
"""The most bytes of a file of class names, of which there may be a hundred thousand."""


@dataclass(frozen=True)
class Run:
    """A run's folder, which need not exist.

    Args:
        folder: The folder.
    """

    folder: Path

    @classmethod
    def of(cls, path: Path) -> Run | None:
        """Return the run at a path: its folder, one of its checkpoints or one of its results.

        The result is None if the path belongs to no run.
        """
        checkpoint, run = Checkpoint.at(path), cls(path)
        if run.exists:  # whatever it is called
            return run
        if checkpoint is not None:
            run = cls(checkpoint.run_folder)
        elif path in cls(path.parent).results:
            run = cls(path.parent)
        return run if run.exists else None

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self.config_file.is_file()

    @property
    def holds_anything(self) -> bool:
        """Whether the folder holds any part of a run, even if its configuration is gone."""
        files = (self.config_file, self.metrics_file, self.bad_images_file, self.checkpoint_folder)
        return any(file.exists() for file in files)

    @property
    def lock_file(self) -> Path:
        """The file that a process locks while it uses the folder."""
        return self.folder / ".lock"

    @property
    def config_file(self) -> Path:
        """The file of the resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """The file with a line of JSON per log step and per evaluation."""
        return self.folder / "metrics.jsonl"

    @property
    def classes_file(self) -> Path:
        """The file with the names of the classes, in a fine-tuning run."""
        return self.folder / "classes.json"

    @property
    def bad_images_file(self) -> Path:
        """The file with a line per image that could not be decoded."""
        return self.folder / "bad_images.txt"

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of all checkpoints."""
        return self.folder / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The encoder written by a finished pretraining run, as a timm folder."""
        return self.folder / "encoder"

    @property
    def best(self) -> Path:
        """The best classifier of a fine-tuning run."""
        return self.folder / "best"

    @property
    def last(self) -> Path:
        """The classifier of a fine-tuning run after its last step."""
        return self.folder / "last"

    @property
    def result(self) -> Path | None:
        """The encoder of the run, or its best (or else last) classifier; None if not yet there."""
        return next((folder for folder in self.results if folder.is_dir()), None)

    @property
    def results(self) -> tuple[Path, ...]:
        """The folders to which a run may write what it has learned, in order of preference."""
        return self.encoder, self.best, self.last

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step, which need not exist."""
        return Checkpoint.of_step(self.checkpoint_folder, step)

    def checkpoints(self) -> list[Checkpoint]:
        """Return the whole checkpoints, oldest first."""
        return list_checkpoints(self.checkpoint_folder)

    def latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest whole checkpoint; None if there is none."""
        return next(reversed(self.checkpoints()), None)

    def sound_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that passes verification; None if there is no checkpoint.

        Raises:
            ValueError: There are checkpoints, and all are damaged.
        """
        return sound_checkpoint(self.checkpoint_folder)

    def remove_unfinished(self) -> None:
        """Remove what an interrupted save has left behind."""
        for folder in self.checkpoint_folder.glob("*.tmp"):
            shutil.rmtree(folder)

    def check_new(self) -> None:
        """Check that the folder holds no part of a run.

        Raises:
            ValueError: It does.
        """
        if self.holds_anything:
            raise ValueError(
                f"run.output_dir must be new, got {self.folder}, which holds a run; "
                "add --resume to continue it, or --out for another folder"
            )

    def check_start(self, resume: Resume) -> None:
        """Check that a run may begin or go on in the folder.

        Args:
            resume: Whether to go on with the run that it holds; "auto" to do so if it holds one.

        Raises:
            ValueError: There is no run to go on with, or a new one would lie over a part of one.
        """
        if resume is True and not self.exists:
            raise ValueError(
                f"--resume needs a run in run.output_dir, got none in {self.folder}; "
                "--resume auto starts one"
            )
        if not (resume and self.exists):
            self.check_new()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration.

        Args:
            config: Plain data, as `config.to_dict` returns it.
        """
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """Return the configuration as plain data.

        Raises:
            ValueError: There is none, or it is damaged.
        """
        file = self.config_file
        try:
            config = read_yaml(file, within=self.folder)
        except ValueError as error:
            raise ValueError(f"{file} must hold the configuration of a run ({error})") from error
        if not isinstance(config, dict):
            got = repr(config)[:80]
            raise ValueError(f"{file} must hold the configuration of a run, got {got}")
        return config

    def write_classes(self, names: Sequence[str]) -> None:
        """Write the names of the classes by number."""
        write_text(self.classes_file, json.dumps(list(names), indent=0, ensure_ascii=False) + "\n")

    def read_classes(self) -> list[str] | None:
        """Return the names of the classes by number; None if the run has not written them.

        Runs of version 0.2 and before wrote them only with their classifiers.

        Raises:
            ValueError: The file is damaged.
        """
        results = [folder / "config.json" for folder in (self.best, self.last)]
        files = [file for file in (self.classes_file, *results) if file.exists()]
        if not files:
            return None
        try:
            read = parse_json(read_text(files[0], most=MOST_BYTES, within=self.folder))
            names = read if files[0] == self.classes_file else read["label_names"]
            return [str(name) for name in names]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{files[0]} must hold the names of classes ({error})") from error

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of the configuration; it is empty if there is none.

        Raises:
            ValueError: The configuration is damaged.
        """
        section = self.read_config().get(name, {})
        if not isinstance(section, dict):
            raise ValueError(f"{self.config_file} must have a section {name}")
        return section

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of the metrics, only the last of those with the same step and kind.

        Raises:
            ValueError: A line is none that a run writes.
        """
        lines: dict[tuple[int, bool], dict[str, Any]] = {}
        for line in read_metrics(self.metrics_file):
            lines[line["step"], "loss" not in line] = line  # a step and its scores
        return [lines[key] for key in sorted(lines)]

    def check_links(self) -> None:
        """Check that nothing that the run writes is a link that leaves its folder.

        Raises:
            ValueError: There is such a link. (The folder may be one itself.)
        """
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry.name.removesuffix(".tmp").removesuffix(".old") in WRITTEN:
                check_within(entry, self.folder)
                for above, folders, files in os.walk(entry):
                    for name in (*folders, *files):
                        check_within(Path(above) / name, self.folder)

    def top1_history(self) -> list[float]:
        """Return the accuracies of a fine-tuning run's evaluations, in order."""
        return [float(line["top1"]) for line in self.read_metrics() if "top1" in line]
