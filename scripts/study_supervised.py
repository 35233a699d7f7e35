"""Does the curriculum hold accuracy in supervised training from scratch, family by family?

    apt-get install dataset-fashion-mnist
    pip install -e '.[test]'                       # SciPy, for the intervals
    OMP_NUM_THREADS=1 python scripts/study_supervised.py
    python scripts/study_supervised.py --publish   # what is complete, to scripts/results
    python scripts/study_supervised.py --table     # the tables of that file

A small member of each family of the paper is trained on 20,000 images of Fashion-MNIST at their own
28 pixels, and measured on the 10,000 test images after its last step. Learning rate and drop path
are tuned for the arm constant, on training images alone, and kept for all arms. Networks, arms and
settings are in `scripts/support/supervised.py`. A seed chooses the training images, their order and
the initial weights, so arms are compared in pairs.

Costs are planned FLOPs, and the CPU seconds of training, without evaluations.

Stop it at any time: the same command continues. A cell of another configuration than the one wanted
is an error. Several commands may run side by side in one folder: each takes cells that no other is
at, and waits at the end until none is left. Cells come seed by seed, of the first seed those of
constant, et and etpp before all others.

Where a family loses accuracy, `--arms` with the variants changes one thing at a time. `--times`
measures training steps of each family at all sizes, alternated.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from support.clothes import fashion_mnist
from support.markdown import markdown
from support.runs import ROOT, WAIT, claim, facts, share, write_json
from support.supervised import ALL_ARMS, ARMS, FAMILIES, PAPER, Trial, next_trial, order, settings
from support.supervised_runs import SIZES, configuration, recalibrated, step_times, trained
from support.supervised_table import tables

from finetune.data import load_labelled
from finetune.plan import make_plan
from mae_et.errors import RunInterruptedError, RunStoppedError
from mae_et.planning.forecast import Plan

RESULTS = ROOT / "scripts" / "results" / "supervised.json"

TUNING = 0.5
"""Passes of a run of tuning, as a multiple of those of constant."""

UNTUNED: Trial = (1e-3, 0.0)
"""For plans and measurements, which do not depend on it."""


class Study:
    """The cells of a study, each of them complete, being run by some command, or still to be run.

    Args:
        out: The work folder, absolute.
        data: The runs' `data.path`.
        per_class: Training images of each class.
        epochs: Passes of the arm constant.
    """

    def __init__(self, out: Path, data: str, per_class: int, epochs: float) -> None:
        self.out, self.data, self.per_class, self.epochs = out, data, per_class, epochs
        self.plan = cache(self._plan)
        """(family, arm) -> the plan of its training."""

    def cell_file(self, family: str, arm: str, seed: int) -> Path:
        """The file of a cell's result."""
        return self.out / f"{family}_{arm}_{seed}" / "cell.json"

    def tuning_file(self, family: str) -> Path:
        """The file of the best settings of a family."""
        return self.out / f"{family}_tuning" / "tune.json"

    def settings(self, family: str, arm: str, seed: int, trial: Trial) -> dict[str, Any]:
        """The settings of a cell."""
        passes, alike = self.epochs * ALL_ARMS[arm].passes, ALL_ARMS[arm].costs
        if alike:
            passes *= self.plan(family, alike).exaflops / self.plan(family, "constant").exaflops
        return settings(
            *(family, arm, seed, trial), passes=passes, data=self.data, per_class=self.per_class
        )

    def trial_settings(self, family: str, trial: Trial) -> dict[str, Any]:
        """The settings of a run of tuning, measured on a fifth of the training images."""
        passes = self.epochs * TUNING
        chosen = self.settings(family, "constant", 0, trial)
        chosen |= {"optim.epochs": passes, "optim.warmup_epochs": passes / 10}
        return chosen | {"data.fold": [1, 5], "run.eval_every": 10**9}

    @cached_property
    def num_classes(self) -> int:
        """The classes of the images."""
        config = configuration(self.trial_settings(PAPER[0], UNTUNED))
        return len(load_labelled(config.data).class_names)

    def _plan(self, family: str, arm: str) -> Plan:
        config, classes = configuration(self.settings(family, arm, 0, UNTUNED)), self.num_classes
        return make_plan(config, self.per_class * classes, classes, processes=1)

    def best(self, family: str) -> Trial | None:
        """The settings that tuning has found; None if it has not ended.

        Raises:
            ValueError: It was tuned with another configuration.
        """
        file = self.tuning_file(family)
        if not file.exists():
            return None
        found = json.loads(file.read_text())
        best = found["rate"], found["drop_path"]
        check_same(file, found["settings"], self.trial_settings(family, best))
        return best

    def tune(self, family: str) -> Trial | None:
        """The settings of a family, tuned if need be; None while another command tunes them."""
        folder = self.tuning_file(family).parent
        if (best := self.best(family)) is not None:
            return best
        with claim(folder) as is_mine:
            scores: dict[Trial, float] = {}
            while is_mine and (trial := next_trial(scores)) is not None:
                name = "rate_{:g}_drop_path_{:g}".format(*trial)
                try:
                    run = trained(folder / name, self.trial_settings(family, trial))
                except RunStoppedError as error:  # it has diverged
                    print(error, flush=True)
                    run = {"top1": 0.0}
                scores[trial] = run["top1"]
                print(f"{family} {name}: {scores[trial]:.2%}", flush=True)
            if scores:
                rate, drop_path = best = max(scores, key=lambda trial: scores[trial])
                found = {"rate": rate, "drop_path": drop_path}
                trials = [[*trial, top1] for trial, top1 in scores.items()]
                wanted = self.trial_settings(family, best)
                write_json(folder / "tune.json", {**found, "trials": trials, "settings": wanted})
        return self.best(family)

    def saved(self, family: str, arm: str, seed: int) -> dict[str, Any] | None:
        """The result of a cell; None if it is not complete.

        Raises:
            ValueError: It is of another configuration.
        """
        file = self.cell_file(family, arm, seed)
        if not file.exists():
            return None
        cell: dict[str, Any] = json.loads(file.read_text())
        best = self.best(family)
        if best is None:
            raise ValueError(f"{file} must stand beside {self.tuning_file(family)}, which is gone")
        check_same(file, cell["settings"], self.settings(family, arm, seed, best))
        return cell

    def run(self, family: str, arm: str, seed: int) -> bool:
        """Complete a cell, and return whether it was this command that did."""
        file = self.cell_file(family, arm, seed)
        folder = file.parent / "run"
        with claim(file.parent) as is_mine:
            best = self.tune(family) if is_mine and not file.exists() else None
            if best is None:
                return False
            wanted, plan = self.settings(family, arm, seed, best), self.plan(family, arm)
            every = -(-plan.steps // 10) if arm == "constant" else 10**9
            cell = trained(folder, wanted | {"run.eval_every": every})
            if arm != "constant":
                del cell["curve"]
            if (top1 := recalibrated(folder, wanted)) is not None:
                cell["recalibrated"] = top1
            cell |= {"exaflops": plan.exaflops, "steps": plan.steps, "settings": wanted}
            write_json(file, cell)
        print(f"{family} {arm} {seed}: {cell['top1']:.2%}, {cell['cpu_seconds']:.0f} s", flush=True)
        return True

    def report(self) -> dict[str, Any]:
        """The results of all complete cells."""
        cells: dict[str, dict[str, dict[str, Any]]] = {}
        tuned = {}
        for family in FAMILIES:
            if self.best(family) is not None:
                tuned[family] = json.loads(self.tuning_file(family).read_text())
            for arm in ALL_ARMS:
                files = self.out.glob(f"{family}_{arm}_[0-9]*/cell.json")
                for seed in sorted(int(file.parent.name.rpartition("_")[2]) for file in files):
                    cell = self.saved(family, arm, seed)
                    assert cell is not None
                    del cell["settings"]
                    cells.setdefault(family, {}).setdefault(arm, {})[str(seed)] = cell
        length = {"epochs": self.epochs, "per_class": self.per_class}
        return {**length, "tuned": tuned, "cells": cells, **facts()}


def check_same(file: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a file holds the result of settings.

    Raises:
        ValueError: It holds that of others.
    """
    plain = json.loads(json.dumps(wanted))
    changed = [key for key in sorted(found | plain) if found.get(key) != plain.get(key)]
    if changed:
        raise ValueError(
            f"{file} must hold the result of these settings; changed: {', '.join(changed)}. "
            f"Remove {file.parent}, or choose another --out"
        )


def run_all(study: Study, options: argparse.Namespace) -> None:
    """Complete all cells, or wait for those that other commands are at."""
    todo = order(options.families, options.arms, options.seeds)
    share(
        lambda: [key for key in todo if study.saved(*key) is None],
        lambda key: study.run(*key),
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/supervised"))
    parser.add_argument("--data", type=Path, default=Path("runs/study/fashion_mnist"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(PAPER))
    parser.add_argument("--arms", nargs="+", choices=ALL_ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=10, help="passes of constant")
    parser.add_argument("--per_class", type=int, default=2000, help="training images of a class")
    parser.add_argument("--rounds", type=int, default=15, help="steps that --times measures")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--tune", action="store_true", help="tune the families, and no more")
    ways.add_argument("--times", action="store_true", help="measure steps, and no more")
    ways.add_argument("--publish", action="store_true", help=f"write {RESULTS.name}, and no more")
    ways.add_argument("--table", action="store_true", help=f"print {RESULTS.name}, and no more")
    options = parser.parse_args(arguments)
    for name, low in (("epochs", 0.0), ("per_class", 4), ("rounds", 0)):
        if not getattr(options, name) > low:
            parser.error(f"--{name} must be above {low:g}, got {getattr(options, name)}")
    if min(options.seeds) < 0:
        parser.error(f"--seeds must be at least 0, got {options.seeds}")
    options.out = options.out.resolve()
    return options


def show_times(study: Study, families: Sequence[str], rounds: int) -> None:
    """Print what a training step costs at each size."""
    times = {name: step_times(study.trial_settings(name, UNTUNED), rounds) for name in families}
    rows = [[name, *(f"{row[size]:.2f}" for size in SIZES)] for name, row in times.items()]
    print(markdown(["CPU ms/image at", *map(str, SIZES)], rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells that are missing, and print the tables."""
    options = parse_arguments(arguments)
    if options.table:
        print(tables(json.loads(RESULTS.read_text())))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    data = fashion_mnist(options.data.resolve())
    study = Study(options.out, data, options.per_class, options.epochs)
    try:
        if options.times:
            show_times(study, options.families, options.rounds)
            return
        while options.tune and None in [study.tune(family) for family in options.families]:
            time.sleep(WAIT)
        if not options.tune and not options.publish:
            run_all(study, options)
        results = study.report()
    except (KeyboardInterrupt, RunInterruptedError):
        sys.exit("stopped; the same command continues")
    except (ValueError, RunStoppedError) as error:
        sys.exit(f"error: {error}")
    write_json(RESULTS if options.publish else options.out / "results.json", results)
    print(tables(results))


if __name__ == "__main__":
    main()
