"""Does the curriculum cost accuracy, and is it the curriculum or merely less training?

    apt-get install dataset-fashion-mnist
    pip install -e '.[test]'                # SciPy, for the intervals
    python scripts/study.py

A small ViT is pretrained on the 60,000 images of Fashion-MNIST without labels, at 28 pixels with
patches of 2: 28, 24, 20 and 12 pixels have the token grids of 224, 192, 160 and 96 with patches of
16. Its encoder is fine-tuned at 28 pixels on 10 % of the labels, and probed on the same ones. A
seed chooses the order of the images, the labels and, for arms of one architecture (all but etpp_hog
and fast, whose decoders differ), the initial weights, so arms are compared in pairs. The accuracy
is that of the last step on the 10,000 test images; nothing is chosen by looking at them.

The arms are in `scripts/support/arms.py`. Costs are FLOPs, as `mae_et plan` reports them, and the
measured seconds of training steps. `--scale gpu` is a larger ViT, trained for more epochs.

Stop it at any time: the same command continues, and leaves complete cells alone. A cell of another
configuration than the one wanted is an error. Cells are run seed by seed; the results file is
written after each cell, and lists those that are missing. `--arms` and `--seeds` restrict what is
run, not what is written. `--known scripts/results/study.json` continues the study of another
machine: an arm and seed that it has in full is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from support.arms import ARMS, SCALES, SCRATCH, WARMUP, Scale, arm_fields
from support.clothes import Scoring, fashion_mnist, labelled
from support.runs import ROOT, Cell, dotted, facts, write_json
from support.table import METRICS, table

from mae_et.runs import Run, find_runs

LABEL_SHARE = 0.1
"""Share of the labels that the encoders are fine-tuned and probed on."""


class Study:
    """The cells of a study, each of them complete or still to be run.

    Args:
        out: The work folder, absolute.
        data: The runs' `data.path`.
        scale: How large the study is.
        epochs: Epochs of the arms constant and et.
    """

    def __init__(self, out: Path, data: str, scale: Scale, epochs: float) -> None:
        self.out, self.data, self.scale, self.epochs = out, data, scale, epochs
        self.plan = cache(self._plan)
        """Arm -> what `mae_et plan` reports about its pretraining."""
        self.results: dict[tuple[str, int, str], Any] = {}
        """(arm, seed, pretraining or a metric) -> its result, if it is complete."""
        self.origins: dict[tuple[str, int], dict[str, Any]] = {}
        """(arm, seed) -> facts of the machine that has run it, if it was another one."""

    def fields(self, arm: str) -> dict[str, object]:
        """Fields of an arm's pretraining, without its seed."""
        epochs = self.epochs
        if arm not in ("constant", "et"):  # the others cost what et costs
            epochs *= self.plan("et")["exaflops"] / self.plan("constant")["exaflops"]
        if arm == "fast":
            epochs /= 2
        length = {"optim__epochs": epochs, "optim__warmup_epochs": epochs * WARMUP}
        return arm_fields(self.scale, arm) | length

    def _plan(self, arm: str) -> dict[str, Any]:
        file = self.out / "plans" / f"{arm}.plan.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        plan: dict[str, Any] = Cell(
            record=self.out / "plans" / f"{arm}.json",
            module="mae_et",
            folder=self.out / "plans",
            arguments=("plan", f"--json={file}"),
            fields=self.fields(arm) | {"data__path": self.data},
            read=lambda _: json.loads(file.read_text()),
        ).result()
        return plan

    def cell(self, arm: str, seed: int, kind: str) -> Cell | None:
        """A cell; None if the pretraining that it needs is not complete.

        Args:
            arm: One of ARMS.
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
        fields = self.scale.network | labelled(self.data, LABEL_SHARE, seed)
        scoring = Scoring(record=record, encoder=encoder, fields=fields, inputs=inputs)
        if kind == "fine-tuned":
            epochs, batch_size = self.scale.finetuning
            epochs *= 1 if encoder else SCRATCH
            return scoring.fine_tuned(folder / kind, epochs, batch_size)
        return scoring.probed(folder / "probe", kind)

    def keys(self, seeds: list[int]) -> Iterator[tuple[str, int, str]]:
        """The keys of all cells, a whole seed at a time."""
        for seed in seeds:
            yield from ((arm, seed, kind) for arm in ARMS for kind in kinds(arm))

    def load(self, seeds: list[int]) -> None:
        """Find the cells that are complete.

        Raises:
            ValueError: A cell has another configuration.
        """
        for key in self.keys(seeds):
            cell = self.cell(*key)
            if cell and (saved := cell.saved()) is not None:
                self.results[key] = saved

    def know(self, file: Path) -> None:
        """Count each arm and seed as complete that a results file has in full.

        Raises:
            ValueError: The file is of another study.
        """
        found = json.loads(file.read_text())
        own = json.loads(json.dumps(self.report([])))
        if "machines" not in found or settings(found) != settings(own):
            raise ValueError(f"--known must be the results of a study of these arms, got {file}")
        for row in found["runs"]:
            arm, seed = row["arm"], row["seed"]
            keys = {kind: (arm, seed, kind) for kind in kinds(arm)}
            if keys.keys() <= row.keys() and not {*keys.values()} <= self.results.keys():
                self.origins[arm, seed] = found["machines"][row["machine"]]
                self.results |= {key: row[kind] for kind, key in keys.items()}

    def run(self, key: tuple[str, int, str]) -> None:
        """Complete a cell.

        Raises:
            ValueError: It is recorded with another configuration.
        """
        cell = self.cell(*key)
        assert cell is not None
        self.results[key] = cell.result()

    def report(self, seeds: list[int]) -> dict[str, Any]:
        """The content of the results file."""
        arms = {
            arm: {"fields": dotted(self.fields(arm)), "plan": self.plan(arm)} for arm in ARMS[1:]
        }
        runs: dict[tuple[str, int], dict[str, Any]] = {}
        here, machines, missing = facts(), list[dict[str, Any]](), list[str]()
        for arm, seed, kind in self.keys(seeds):
            row = runs.setdefault((arm, seed), {"arm": arm, "seed": seed})
            if (arm, seed, kind) in self.results:
                machine = self.origins.get((arm, seed), here)
                if machine not in machines:
                    machines.append(machine)
                row["machine"] = machines.index(machine)
                row[kind] = self.results[arm, seed, kind]
            else:
                missing.append(f"{arm}/{seed}/{kind}")
        return {
            "recipe": "demo",
            "epochs": self.epochs,
            "seeds": seeds,
            "arms": arms,
            "finetuning": {
                "fields": dotted(self.scale.network),
                "labels": LABEL_SHARE,
                "epochs_and_batch": self.scale.finetuning,
                "from_scratch": SCRATCH,
            },
            "runs": list(runs.values()),
            "missing": missing,
            "machines": machines,
        }


def pretrained(folder: Path) -> dict[str, Any]:
    """The result of a pretraining run: the digest of its encoder, and its training seconds."""
    weights = (Run(folder).encoder / "model.safetensors").read_bytes()
    (run,), _ = find_runs([str(folder)])
    digest = hashlib.sha256(weights).hexdigest()
    return {"encoder": digest, "seconds": run.seconds}


def kinds(arm: str) -> tuple[str, ...]:
    """The cells of each seed of an arm."""
    return ("fine-tuned",) if arm == "none" else ("pretraining", *METRICS)


def settings(results: dict[str, Any]) -> list[Any]:
    """What the results of one study agree in."""
    arms = {arm: part["fields"] for arm, part in results.get("arms", {}).items()}
    return [arms, results.get("finetuning")]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with defaults that depend on the scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--epochs", type=float, help="E; else that of the scale")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", help="else those of the scale")
    parser.add_argument("--out", type=Path, help="work folder; else runs/curriculum[_gpu]")
    parser.add_argument("--results", type=Path, help="else scripts/results/study[_gpu].json")
    parser.add_argument("--known", type=Path, help="results of the same study from elsewhere")
    parser.add_argument("--data", type=Path, default=Path("runs/study/fashion_mnist"))
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    suffix = "" if options.scale == "cpu" else f"_{options.scale}"
    options.out = (options.out or Path(f"runs/curriculum{suffix}")).resolve()
    options.results = options.results or ROOT / "scripts" / "results" / f"study{suffix}.json"
    options.seeds = options.seeds or list(scale.seeds)
    if min(options.seeds) < 0:
        parser.error(f"--seeds must be at least 0, got {options.seeds}")
    if options.epochs is not None and not options.epochs > 0:
        parser.error(f"--epochs must be above 0, got {options.epochs}")
    if options.known is not None and not options.known.is_file():
        parser.error(f"--known must be a results file, got {options.known}")
    options.epochs = options.epochs or scale.epochs
    return options


def main(arguments: list[str] | None = None) -> None:
    """Run the cells that are missing, and print the table."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    scale = SCALES[options.scale]
    seeds = sorted({*scale.seeds, *options.seeds})
    study = Study(options.out, fashion_mnist(options.data.resolve()), scale, options.epochs)
    try:
        study.load(seeds)
        if options.known:
            study.know(options.known)
        for key in study.keys(seeds):
            arm, seed, _ = key
            if key not in study.results and arm in options.arms and seed in options.seeds:
                study.run(key)
                write_json(options.results, study.report(seeds))
                print("/".join(map(str, key)), study.results[key], flush=True)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues")
    except ValueError as error:
        sys.exit(f"error: {error}")
    report = study.report(seeds)
    write_json(options.results, report)
    print(table(report))


if __name__ == "__main__":
    main()
