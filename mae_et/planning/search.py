"""Search for the input sizes that the stages of a run should have.

greedy: EfficientTrain (ICCV 2023, https://arxiv.org/abs/2211.09703), Algorithm 1. Stages of equal
length begin at full size. In turn, each gets the smallest size with which the run keeps the score
of a run at full size throughout; later stages stay at full size meanwhile.

sequential: EfficientTrain++ (TPAMI 2024, https://arxiv.org/abs/2405.08768). Stages have equal cost,
so a small size has more steps. For each stage in turn, every size is trained for the stage, from
the weights of the sizes chosen before, then for a short phase at full size; the best score wins.

The papers score by supervised accuracy. For MAE, ours is a probe of the frozen encoder on a tenth
of the labelled training images, so that test images stay unseen. Sizes never fall from one stage to
the next, the last stage has the full size, and the short phase is the beginning of the next stage,
with its learning rate: if that stage turns out to have the full size, nothing of it is lost.
"""

from __future__ import annotations

import math
import platform
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from accelerate import Accelerator

from .. import __version__
from ..build import build_images, build_on_meta, build_probe_images
from ..config import CurriculumConfig, PretrainConfig, StageConfig, to_dict
from ..curriculum import Size, area, scaled_sizes
from ..errors import check
from ..model import MaskedModel
from ..training import Interrupt, make_accelerator
from .schedules import HEADER
from .trials import Trials


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a search may spend where the command line does not say."""

    stages: dict[str, int]
    """Stages of a schedule, by method."""
    sizes: tuple[int, ...]
    """Candidate sizes, relative to the last."""
    epochs: float
    """Epochs of a run, as a share of optim.epochs."""
    seeds: int


BUDGETS = {
    "small": Budget(stages={"greedy": 3, "sequential": 3}, sizes=(3, 5, 7), epochs=0.25, seeds=2),
    "full": Budget(
        stages={"greedy": 5, "sequential": 10}, sizes=(96, 128, 160, 192, 224), epochs=1.0, seeds=1
    ),
}
"""The budgets by name; full has the stages and sizes of the published schedules (and 128)."""


def search(config: PretrainConfig, options: Any, out: Path, arguments: Sequence[str]) -> None:
    """Search the sizes of a run's stages, and write the recipe that has them.

    Args:
        config: The run whose stages are searched.
        options: The options of the command; see `mae_et.commands.search`.
        out: The recipe file to write.
        arguments: The command line, which the recipe's header repeats.

    Raises:
        ValueError: The configuration, the data or an option is bad.
        RunInterruptedError: A signal asked the search to stop; the same command resumes it.
        RunStoppedError: A run cannot continue.
    """
    accelerator = make_accelerator(config.run)
    started = time.monotonic()
    with Interrupt(accelerator) as interrupt:
        trials, sizes, num_held_out = _prepare(accelerator, config, options, interrupt)
        if accelerator.is_main_process:
            print(HEADER, flush=True)
        if options.method == "greedy":
            chosen = greedy(trials, sizes, options.tolerance)
        else:
            chosen = sequential(trials, sizes, options.phase)
    if accelerator.is_main_process:
        evidence = _evidence(trials, chosen, num_held_out, time.monotonic() - started)
        out.write_text(_recipe(config, trials, chosen, evidence, arguments))
        print("\n".join([*evidence, f"recipe: {out}"]))


def greedy(trials: Trials, sizes: Sequence[Size], tolerance: float) -> list[Size]:
    """Choose the sizes of the first stages, below the full size, by EfficientTrain's algorithm.

    Args:
        trials: Runs the schedules.
        sizes: The candidates, rising to the full size.
        tolerance: Points of accuracy that a size may lose and still keep the score.
    """
    least = 100 * trials.run((), "full size").score - tolerance
    chosen: list[Size] = []
    for stage in range(1, trials.num_stages):
        for size in _from(sizes, chosen)[:-1]:
            trial = trials.run([*chosen, size], f"stage {stage}")
            if 100 * trial.score >= least - 1e-9:
                chosen.append(size)
                break
        else:
            break  # full size, here and in all later stages
    return chosen


def sequential(trials: Trials, sizes: Sequence[Size], phase: float) -> list[Size]:
    """Choose the sizes of the first stages by EfficientTrain++'s algorithm; see `greedy`.

    Args:
        trials: Runs the schedules.
        sizes: The candidates, rising to the full size.
        phase: Length of the phase at full size, as a share of a stage there.
    """
    chosen: list[Size] = []
    for stage in range(1, trials.num_stages):
        scores: dict[Size, float] = {}
        for size in _from(sizes, chosen):
            following = trials.schedule([*chosen, size]).stages[stage]
            stop = following.start + max(1, round(phase * following.num_steps))
            trial = trials.run([*chosen, size], f"stage {stage}", stop)
            scores[size] = trial.score
        best = max(scores, key=lambda size: scores[size])
        if best == sizes[-1]:
            break
        chosen.append(best)
    trials.run(chosen, "whole run")
    if chosen:
        trials.run((), "full size")
    return chosen


def _from(sizes: Sequence[Size], chosen: Sequence[Size]) -> list[Size]:
    """Return the candidates for the stage after the chosen ones."""
    return list(sizes[sizes.index(chosen[-1]) if chosen else 0 :])


def _prepare(
    accelerator: Accelerator, config: PretrainConfig, options: Any, interrupt: Interrupt
) -> tuple[Trials, list[Size], int]:
    """Return the runs to do, the candidates and the number of scoring images; find all errors."""
    config.data.check_given()
    check(not config.data.replay, "data.replay", config.data.replay, "empty for a search")
    early = config.optim.early_batch
    check(not early, "optim.early_batch", early, "empty for a search")
    budget = BUDGETS[options.budget]
    model = build_on_meta(config.model)
    sizes = _sizes(model, options.sizes, budget)
    stages = budget.stages[options.method] if options.stages is None else options.stages
    check(stages > 1, "--stages", options.stages, "at least 2")
    seeds = budget.seeds if options.seeds is None else options.seeds
    check(seeds > 0, "--seeds", options.seeds, "above 0")
    check(0 <= options.tolerance < 100, "--tolerance", options.tolerance, "in [0, 100)")
    check(0 < options.phase <= 1, "--phase", options.phase, "in (0, 1]")
    config = _with_epochs(config, options.epochs, budget)
    constant = replace(
        config,
        curriculum=CurriculumConfig(name="constant"),
        data=replace(config.data, first_crop_scale=None, first_color_jitter=None),
        eval=replace(config.eval, held_out=True),
    )
    labelled = build_probe_images(constant, model, accelerator)
    images, _ = build_images(constant, model, accelerator)
    trials = Trials(
        config,
        model,
        len(images.train),
        num_stages=stages,
        cost=(config.curriculum.cost or "area") if options.method == "sequential" else None,
        score=options.score,
        seeds=seeds,
        interrupt=interrupt,
    )
    return trials, sizes, len(labelled.test)


def _with_epochs(config: PretrainConfig, given: float | None, budget: Budget) -> PretrainConfig:
    """Return the configuration with the epochs of each run, and the same share of warm-up."""
    optim = config.optim
    epochs = budget.epochs * optim.epochs if given is None else given
    check(0 < epochs < math.inf, "--epochs", given, "above 0")
    warmup = optim.warmup_epochs * epochs / optim.epochs
    return replace(config, optim=replace(optim, epochs=epochs, warmup_epochs=warmup))


def _sizes(model: MaskedModel, given: list[Size] | None, budget: Budget) -> list[Size]:
    """Return the candidates, rising to the full size."""
    full_size = model.full_size
    check(given != [], "--sizes", given, "pixels")
    sizes = given or scaled_sizes(budget.sizes, full_size, model.size_multiple)
    for size in sizes:
        try:
            model.check_input_size(size)
        except ValueError as error:
            raise ValueError(f"--sizes: {error}") from None
    sizes = sorted({*sizes, full_size}, key=area)
    check(len(sizes) > 1, "--sizes", given, f"some below model.image_size {full_size}")
    return sizes


def _evidence(
    trials: Trials, chosen: Sequence[Size], num_held_out: int, seconds: float
) -> list[str]:
    """Describe what the search found: the chosen schedule and the full-size one, as whole runs."""
    by_sizes = {trial.sizes: trial for trial in trials.done if trial.is_whole}
    best = by_sizes[trials.sizes(chosen)]
    full = by_sizes[trials.sizes(())]
    error = 100 * math.sqrt(full.score * (1 - full.score) / (num_held_out * len(full.scores)))
    return [
        f"chosen: {best.name}, {best.score:.2%} for {best.cost:.1%} of the FLOPs; at full size "
        f"{full.score:.2%} for {full.cost:.1%}",
        f"Scores are top-1 of the {trials.probe} probe on {num_held_out} held-out images by seed; "
        f"the mean has a standard error of about {error:.1f} points.",
        f"Runs have {trials.config.optim.epochs:g} epochs (their cost at full size) of "
        f"{trials.num_images} images. This took {seconds:.0f} s, without runs of an earlier call.",
    ]


def _recipe(
    config: PretrainConfig,
    trials: Trials,
    chosen: Sequence[Size],
    evidence: Sequence[str],
    arguments: Sequence[str],
) -> str:
    """Return the recipe of the run with the chosen stages, headed by how they were found."""
    device = "cuda" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    header = [
        "Input sizes found by a search.",
        "",
        f"  python -m mae_et search {shlex.join(arguments)}",
        "",
        *(HEADER, *(trial.row() for trial in trials.done)),
        "",
        *evidence,
        f"{date.today()}, mae_et {__version__}, torch {torch.__version__}, "
        f"timm {timm.__version__}, {platform.machine()}, {device}.",
    ]
    curriculum = CurriculumConfig(
        name="stages",
        stages=[StageConfig(size=size) for size in trials.sizes(chosen)],
        cost=trials.cost,
        nyquist=config.curriculum.nyquist,
    )
    run = replace(config.run, output_dir=str(trials.folder / "run"))
    found = to_dict(replace(config, curriculum=curriculum, run=run))
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header)
    return comment + yaml.safe_dump(found, sort_keys=False, default_flow_style=None)
