"""Does the curriculum cost accuracy, and is it the curriculum or merely less training?

    apt-get install dataset-fashion-mnist
    python scripts/study.py

A small ViT is pretrained on the 60,000 images of Fashion-MNIST without labels, at 28 pixels with
patches of 2: 28, 24, 20 and 12 pixels have the token grids of 224, 192, 160 and 96 with patches of
16. Its encoder is fine-tuned at 28 pixels on 10 % of the labels, and probed on the same ones. A
seed chooses the order of the images, the labels and, for arms of one architecture (all but etpp_hog
and fast, whose decoders differ), the initial weights, so arms are compared in pairs. The accuracy
is that of the last step on the 10,000 test images; nothing is chosen by looking at them.

The arms are in `scripts/support/arms.py`. Costs are FLOPs, as `mae_et plan` says, and the
measured seconds of training steps. `--scale gpu` is a larger ViT with more epochs and seeds.

Stop it at any time: the same command goes on, with the cells that are complete left alone. A cell
whose configuration is no longer the one wanted is an error. The results file is written after
every cell, a whole seed at a time, and lists the cells that are missing; `--arms` and `--seeds`
restrict what is run, not what is written. `--known scripts/results/study.json` goes on with the
study of another machine: an arm and seed that it has in full is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from support.arms import ARMS, SCALES, SCRATCH, WARMUP, Scale, arm_fields
from support.clothes import fashion_mnist, finetuning, labelled, last_top1, probed_top1
from support.runs import ROOT, Cell, facts, write_json
from support.seeds import MOST_SEEDS
from support.table import METRICS, table

from mae_et.runs.history import find_runs

LABEL_SHARE = 0.1


class Study:
    """The cells of a study, each complete or to be run.

    Args:
        out: the work folder, absolute.
        data: `data.path`.
        scale: how large it is.
        epochs: of the arms constant and et.
    """

    def __init__(self, out: Path, data: str, scale: Scale, epochs: float) -> None:
        self.out, self.data, self.scale, self.epochs = out, data, scale, epochs
        self.plan = cache(self._plan)
        """arm -> what `mae_et plan` says of its pretraining"""
        self.results: dict[tuple[str, int, str], Any] = {}
        """(arm, seed, pretraining or a metric) -> what is known of it"""
        self.origins: dict[tuple[str, int], dict[str, Any]] = {}
        """(arm, seed) -> facts of the machine that has run it, if it was another one"""

    def fields(self, arm: str) -> dict[str, object]:
        """The pretraining of an arm, without its seed."""
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
        """A cell; None if it needs the encoder of one that is not complete."""
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
        fields = self.scale.network | labelled(self.data, LABEL_SHARE, seed)
        inputs, encoder = {}, None
        if arm != "none":
            if (arm, seed, "pretraining") not in self.results:
                return None
            inputs = {"encoder": self.results[arm, seed, "pretraining"]["encoder"]}
            encoder = folder / "pretraining" / "encoder"
        if kind == "fine-tuned":
            epochs, batch_size = self.scale.finetuning
            fields |= finetuning(encoder, epochs if encoder else SCRATCH * epochs, batch_size)
            return Cell(
                record=record,
                module="finetune",
                folder=folder / kind,
                fields=fields,
                inputs=inputs,
                read=last_top1,
            )
        return Cell(
            record=record,
            module="finetune",
            folder=folder / "probe",  # both use the same features
            fields=fields | {"checkpoint": encoder, "mode": kind},
            inputs=inputs,
            read=partial(probed_top1, mode=kind),
        )

    def keys(self, seeds: list[int]) -> Iterator[tuple[str, int, str]]:
        """All cells, a whole seed at a time."""
        for seed in seeds:
            yield from ((arm, seed, kind) for arm in ARMS for kind in kinds(arm))

    def load(self, seeds: list[int]) -> None:
        """Find the cells that are complete.

        Raises:
            ValueError: one has another configuration.
        """
        for key in self.keys(seeds):
            cell = self.cell(*key)
            if cell and (saved := cell.saved()) is not None:
                self.results[key] = saved

    def know(self, file: Path) -> None:
        """Count each arm and seed that a results file has in full as complete.

        Raises:
            ValueError: it is of another study.
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
        """Complete a cell."""
        cell = self.cell(*key)
        assert cell is not None
        self.results[key] = cell.result()

    def report(self, seeds: list[int]) -> dict[str, Any]:
        """What the results file holds."""
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
    """What a pretraining run comes to: the digest of its encoder, and its training seconds."""
    weights = (folder / "encoder" / "model.safetensors").read_bytes()
    (run,), _ = find_runs([str(folder)])
    digest = hashlib.sha256(weights).hexdigest()
    return {"encoder": digest, "seconds": run.seconds}


def kinds(arm: str) -> tuple[str, ...]:
    """What a seed of an arm consists of."""
    return ("fine-tuned",) if arm == "none" else ("pretraining", *METRICS)


def settings(results: dict[str, Any]) -> list[Any]:
    """What a results file is of."""
    arms = {arm: part["fields"] for arm, part in results.get("arms", {}).items()}
    return [arms, results.get("finetuning")]


def dotted(fields: dict[str, object]) -> dict[str, object]:
    """Fields by the names of options."""
    return {name.replace("__", "."): value for name, value in fields.items()}


def main(arguments: list[str] | None = None) -> None:
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
    out = (options.out or Path(f"runs/curriculum{suffix}")).resolve()
    results = options.results or ROOT / "scripts" / "results" / f"study{suffix}.json"
    selected = options.seeds or list(scale.seeds)
    seeds = sorted({*scale.seeds, *selected})
    if len(seeds) > MOST_SEEDS or seeds[0] < 0:
        allowed = f"at least 0, and at most {MOST_SEEDS} together with those of the scale"
        parser.error(f"--seeds must be {allowed}, got {selected}")
    if options.epochs is not None and not options.epochs > 0:
        parser.error(f"--epochs must be above 0, got {options.epochs}")
    if options.known is not None and not options.known.is_file():
        parser.error(f"--known must be a results file, got {options.known}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C

    study = Study(out, fashion_mnist(options.data.resolve()), scale, options.epochs or scale.epochs)
    try:
        study.load(seeds)
        if options.known:
            study.know(options.known)
        for key in study.keys(seeds):
            arm, seed, _ = key
            if key not in study.results and arm in options.arms and seed in selected:
                study.run(key)
                write_json(results, study.report(seeds))
                print("/".join(map(str, key)), study.results[key], flush=True)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    except ValueError as error:
        sys.exit(f"error: {error}")
    report = study.report(seeds)
    write_json(results, report)
    print(table(report))


if __name__ == "__main__":
    main()
