"""The cells of the pretraining studies: encoders pretrained by some arms, and their scores."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from mae_et.planning.plan import plan_from_flops
from mae_et.runs import Run, find_runs

from .arms import SCRATCH, Scale
from .clothes import Scoring, labelled
from .runs import Cell, claim, configuration
from .table import METRICS

LABEL_SHARE = 0.1
"""Share of the labels that the encoders are fine-tuned and probed on."""

Key = tuple[str, int, str]
"""An arm, a seed, and what is run: one of `kinds(arm)`."""


class Cells(ABC):
    """The cells of a study, each of them complete, being run by some command, or still to be run.

    Args:
        out: The work folder, absolute.
        data: The runs' `data.path`.
        scale: How large the study is.
        epochs: Epochs of the arm constant.
    """

    def __init__(self, out: Path, data: str, scale: Scale, epochs: float) -> None:
        self.out, self.data, self.scale, self.epochs = out, data, scale, epochs
        self.results: dict[Key, Any] = {}
        """The results of complete cells."""
        self.plan = cache(lambda arm: self.planned(self.fields(arm)))
        """Arm -> what `mae_et plan` reports about its pretraining."""

    @abstractmethod
    def fields(self, arm: str) -> dict[str, object]:
        """Fields of an arm's pretraining, without its seed."""

    def planned(self, fields: Mapping[str, object]) -> dict[str, Any]:
        """What `mae_et plan` reports about a pretraining with these fields."""
        config = configuration("mae_et", {**fields, "data__path": self.data})
        return asdict(plan_from_flops(config))

    def labels(self, seed: int) -> dict[str, object]:
        """Fields that choose the labelled images of a seed, to learn from and to be measured on."""
        return labelled(self.data, LABEL_SHARE, seed)

    def cell(self, arm: str, seed: int, kind: str) -> Cell | None:
        """A cell; None if the pretraining that it needs is not complete.

        Args:
            arm: One of the study's arms.
            seed: The seed of everything.
            kind: One of `kinds(arm)`.
        """
        folder = self.out / f"{arm}_{seed}"
        record = self.out / "cells" / f"{arm}_{seed}_{kind}.json"
        if kind == "pretraining":
            return Cell(
                record=record,
                module="mae_et",
                folder=folder / "pretraining",
                arguments=("pretrain",),
                fields=self.fields(arm) | {"data__path": self.data, "run__seed": seed},
                read=pretrained,
            )
        inputs, encoder = {}, None
        if arm != "none":
            if (arm, seed, "pretraining") not in self.results:
                return None
            inputs = {"encoder": self.results[arm, seed, "pretraining"]["encoder"]}
            encoder = Run(folder / "pretraining").encoder
        fields = self.scale.network | self.labels(seed)
        scoring = Scoring(record=record, encoder=encoder, fields=fields, inputs=inputs)
        if kind == "fine-tuned":
            epochs, batch_size = self.scale.finetuning
            epochs *= 1 if encoder else SCRATCH
            return scoring.fine_tuned(folder / kind, epochs, batch_size)
        return scoring.probed(folder / "probe", kind)

    def load(self, units: Iterable[tuple[str, int]]) -> None:
        """Find the complete cells of arms and seeds.

        Raises:
            ValueError: A cell has another configuration.
        """
        for arm, seed in units:
            for kind in kinds(arm):
                key = arm, seed, kind
                cell = None if key in self.results else self.cell(*key)
                if cell and (saved := cell.saved()) is not None:
                    self.results[key] = saved

    def is_complete(self, arm: str, seed: int) -> bool:
        """Whether all cells of an arm and a seed are known to be complete."""
        return all((arm, seed, kind) in self.results for kind in kinds(arm))

    def complete(self, arm: str, seed: int, then: Callable[[], None] = lambda: None) -> bool:
        """Complete the cells of an arm and a seed, unless another command is at it.

        Args:
            arm: One of the study's arms.
            seed: The seed of everything.
            then: Called after each cell.

        Returns:
            Whether it was this command that did.

        Raises:
            ValueError: A cell is recorded with another configuration.
        """
        with claim(self.out / f"{arm}_{seed}") as is_mine:
            if not is_mine:
                return False
            self.load([(arm, seed)])
            for kind in kinds(arm):
                key = arm, seed, kind
                if key not in self.results:
                    cell = self.cell(*key)
                    assert cell is not None
                    self.results[key] = cell.result()
                    print("/".join(map(str, key)), self.results[key], flush=True)
                    then()
        return True


def pretrained(folder: Path) -> dict[str, Any]:
    """The result of a pretraining run: the digest of its encoder, and its training seconds."""
    weights = (Run(folder).encoder / "model.safetensors").read_bytes()
    (run,), _ = find_runs([str(folder)])
    digest = hashlib.sha256(weights).hexdigest()
    return {"encoder": digest, "seconds": run.seconds}


def kinds(arm: str) -> tuple[str, ...]:
    """The cells of each seed of an arm."""
    return ("fine-tuned",) if arm == "none" else ("pretraining", *METRICS)
