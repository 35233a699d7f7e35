"""The runs of a schedule search, which train what schedules have in common only once.

    SEARCH/search.yaml           what all of its runs have in common
    SEARCH/seed_0/12@39-28@10/   the run of seed 0 through 39 steps at 12 pixels and 10 at 28
    SEARCH/trials.jsonl          a line per score

A run is a schedule up to a step. Its samples and masks are functions of the step; its stage and
learning rate depend on its place in the schedule. All schedules of a search have the same number of
stages, and where a stage begins and ends, in steps and in learning rate, does not depend on what
follows. So schedules that agree up to a step share the state there, and a run continues a copy of
the longest run that its schedule begins with, as any run resumes from its checkpoint.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import yaml
from accelerate import PartialState

from ..build import build_curriculum, full_size_steps
from ..config import (
    FREE_ON_RESUME,
    PretrainConfig,
    StageConfig,
    changed_fields,
    read_yaml,
    to_dict,
)
from ..curriculum import Curriculum, Size, area
from ..errors import RunInterruptedError, RunStoppedError, check
from ..model import MaskedModel, training_flops
from ..pretraining import pretrain
from ..runs import Run, new_folder
from ..training import Interrupt
from .schedules import Past, Trial, begins_with, num_steps, past_at, size_name


class Trials:
    """The runs of a search.

    Args:
        config: The configuration of all runs, except for their stages.
        model: The model of the runs, on any device.
        num_images: Number of training images.
        num_stages: Number of stages of each schedule.
        cost: The cost that stages share equally; None to share steps.
        score: The probe that gives the score.
        seeds: Number of runs of each schedule, with run.seed and the seeds after it.
        interrupt: Notes the signals that ask the search to stop, in a run and between runs.

    Raises:
        ValueError: The folder holds something else, or the stages do not fit.
    """

    def __init__(
        self,
        config: PretrainConfig,
        model: MaskedModel,
        num_images: int,
        *,
        num_stages: int,
        cost: Literal["area", "flops"] | None,
        score: Literal["knn", "linear"],
        seeds: int,
        interrupt: Interrupt,
    ) -> None:
        self.config, self.model, self.num_images = config, model, num_images
        self.num_stages, self.cost, self.probe = num_stages, cost, score
        self.seeds = range(config.run.seed, config.run.seed + seeds)
        self.folder, self.interrupt = Path(config.run.output_dir), interrupt
        self.flops: Callable[[Size], float] = cache(partial(training_flops, model))
        self.done: list[Trial] = []
        self._runs: set[tuple[int, Past]] = set()
        self._lines: list[dict[str, Any]] = []
        self.schedule(())  # raises its errors
        self._open()

    def _open(self) -> None:
        """Make the folder, or reopen that of a search with the same configuration."""
        config = to_dict(self._config(())) | {"search": {"score": self.probe}}
        file = self.folder / "search.yaml"
        if file.exists():
            old, free = read_yaml(file, within=self.folder), FREE_ON_RESUME - {"eval"}
            allowed = "new, or that of a search with the same configuration"
            check(isinstance(old, dict), "run.output_dir", str(self.folder), allowed)
            changed = changed_fields(old, config, PretrainConfig, free)
            check(not changed, "run.output_dir", f"{self.folder} ({', '.join(changed)})", allowed)
            return
        is_free = not any(self.folder.glob("*"))
        check(is_free, "run.output_dir", str(self.folder), "new, or that of a search")
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            with new_folder(self.folder) as new:
                (new / file.name).write_text(yaml.safe_dump(config, sort_keys=False))

    def sizes(self, first: Sequence[Size]) -> tuple[Size, ...]:
        """Return the sizes of all stages of the schedule that begins with these sizes."""
        return (*first, *[self.model.full_size] * (self.num_stages - len(first)))

    def schedule(self, first: Sequence[Size]) -> Curriculum:
        """Return the curriculum with first stages of these sizes and the others at full size."""
        config = self._config(first)
        return build_curriculum(config, self.model, self.num_images)

    def run(self, first: Sequence[Size], purpose: str, stop: int | None = None) -> Trial:
        """Train the schedule of these first stages up to a step, with each seed, and score it.

        Args:
            first: Sizes of the first stages; the others have the full size.
            purpose: What the trial is for.
            stop: The step before which to stop; None for the end.

        Raises:
            RunInterruptedError: A signal asked the search to stop; the same search resumes it.
            RunStoppedError: A run cannot continue.
        """
        schedule = self.schedule(first)
        stop = stop or schedule.num_steps
        folders = [self._train(first, stop, seed, is_scored=True) for seed in self.seeds]
        lines = [_result(folder, stop, f"{self.probe}_top1") for folder in folders]
        cost = sum(steps * self.flops(size) for size, steps in past_at(schedule, stop))
        constant = self.schedule(())
        trial = Trial(
            purpose=purpose,
            sizes=self.sizes(first),
            steps=stop,
            is_whole=stop == schedule.num_steps,
            cost=cost / (constant.num_steps * self.flops(constant.full_size)),
            scores=tuple(line["score"] for line in lines),
        )
        self.done.append(trial)
        about = {"purpose": purpose, "sizes": trial.sizes, "steps": stop, "cost": trial.cost}
        for seed, folder, line in zip(self.seeds, folders, lines, strict=True):
            place = {"seed": seed, "folder": str(folder.relative_to(self.folder))}
            self._lines.append(about | place | line)
        if PartialState().is_main_process:
            text = "".join(json.dumps(line) + "\n" for line in self._lines)
            (self.folder / "trials.jsonl").write_text(text)
            print(trial.row(), flush=True)
        return trial

    def _train(
        self, first: Sequence[Size], stop: int, seed: int, *, is_scored: bool = False
    ) -> Path:
        """Train a run up to a step, and return its folder."""
        schedule = self.schedule(first)
        for stage in schedule.stages:  # others may branch off where a small stage ends
            if stage.stop < stop and stage.size != schedule.full_size:
                self._train(first, stage.stop, seed)
        path = past_at(schedule, stop)
        folder = self._folder(seed, path)
        config = self._config(first)
        every = stop if is_scored else None
        linear, knn = (every if self.probe == name else None for name in ("linear", "knn"))
        config = replace(
            config,
            eval=replace(config.eval, linear_every=linear, knn_every=knn),
            run=replace(config.run, seed=seed, output_dir=str(folder)),
        )
        if not _is_trained(folder, stop):
            if PartialState().is_main_process and not folder.exists():
                starts = [p for s, p in self._runs if s == seed and begins_with(path, p)]
                if starts:
                    _branch(self._folder(seed, max(starts, key=num_steps)), folder, config)
            PartialState().wait_for_everyone()
            try:
                if self.interrupt.is_agreed():
                    raise RunInterruptedError
                pretrain(config, resume="auto", stop=stop, interrupt=self.interrupt)
            except RunInterruptedError:
                line = f"interrupted in {folder}; the same command continues"
                raise RunInterruptedError(line) from None
            gc.collect()  # accelerate and its models refer to each other; free the device's memory
            if not _is_trained(folder, stop):
                raise RunStoppedError(f"{folder} has no checkpoint of its last step")
        self._runs.add((seed, path))
        return folder

    def _config(self, first: Sequence[Size]) -> PretrainConfig:
        """Return the configuration of the runs of a schedule, except for seed and folder."""
        config, sizes = self.config, self.sizes(first)
        stages = [
            StageConfig(size=size, share=share)
            for size, share in zip(sizes, self._shares(sizes), strict=True)
        ]
        curriculum = replace(
            config.curriculum, name="stages", stages=stages, sizes=None, cost=self.cost
        )
        return replace(
            config,
            curriculum=curriculum,
            eval=replace(config.eval, held_out=True, knn_every=None, linear_every=None),
            run=replace(config.run, eval_every=None, keep_checkpoints=1, tracker="none"),
        )

    def _shares(self, sizes: Sequence[Size]) -> list[float]:
        """Return equal shares (up to rounding) of the steps, or of the cost in full-size steps.

        All but the last stage then have a whole number of steps, and binary fractions add up
        exactly, so that a stage ends at the same step and learning rate whatever follows.
        """
        if self.cost is None:
            return [1.0] * len(sizes)
        cost: Callable[[Size], float] = self.flops if self.cost == "flops" else area
        budget = full_size_steps(self.config, self.num_images)
        shares = []
        for size in sizes[:-1]:
            ratio = cost(sizes[-1]) / cost(size)
            steps = max(1, round(budget / len(sizes) * ratio))
            shares.append(round(steps / ratio * 2**20) / 2**20)
        rest = budget - sum(shares)
        allowed = f"enough steps for {len(sizes)} stages of equal cost"
        check(rest > 0, "--epochs", self.config.optim.epochs, f"{allowed} (now {budget})")
        return [*shares, rest]

    def _folder(self, seed: int, path: Past) -> Path:
        return self.folder / f"seed_{seed}" / "-".join(f"{size_name(s)}@{n}" for s, n in path)


def _is_trained(folder: Path, stop: int) -> bool:
    checkpoint = Run(folder).latest_checkpoint()
    return checkpoint is not None and checkpoint.step == stop


def _branch(start: Path, folder: Path, config: PretrainConfig) -> None:
    """Make a run that has another's past and its own future, for `pretrain` to resume."""
    old = Run(start)
    checkpoint = old.latest_checkpoint()
    assert checkpoint is not None
    with new_folder(folder) as new:
        branch = Run(new)
        shutil.copytree(checkpoint.folder, branch.checkpoint(checkpoint.step).folder)
        shutil.copy(old.metrics_file, branch.metrics_file)
        curriculum = to_dict(config)["curriculum"]
        branch.write_config({**old.read_config(), "curriculum": curriculum})


def _result(folder: Path, stop: int, score: str) -> dict[str, float]:
    """Return the score of a run, its loss on the held-out images, and its seconds of training."""
    lines = Run(folder).read_metrics()
    scored = next(line for line in reversed(lines) if line["step"] == stop and score in line)
    seconds = sum(line["seconds"] for line in lines if "seconds" in line)
    return {"score": scored[score], "eval_loss": scored["eval_loss"], "seconds": seconds}
