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
configuration than the one wanted is an error. Several commands may run side by side in one folder.
Cells are run seed by seed; the results file is written after each cell, and lists those that are
missing. `--arms` and `--seeds` restrict what is run, not what is written.
`--known scripts/results/study.json` continues the study of another machine: an arm and seed that it
has in full is not run again.

Do small sizes still help after more passes? Three arms with four times as many, for FILE
scripts/results/study_x4.json (and, with --epochs 32, 16 times as many, study_x16.json):

    python scripts/study.py --epochs 8 --arms constant etpp_hog low --out runs/x4 --results FILE
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from support.arms import ARMS, SCALES, SCRATCH, WARMUP, Scale, arm_fields
from support.cells import LABEL_SHARE, Cells, kinds
from support.clothes import fashion_mnist
from support.runs import ROOT, dotted, facts, share, write_json
from support.table import table


class Study(Cells):
    """The cells of the study.

    Args:
        out: The work folder, absolute.
        data: The runs' `data.path`.
        scale: How large the study is.
        epochs: Epochs of the arms constant and et.
    """

    def __init__(self, out: Path, data: str, scale: Scale, epochs: float) -> None:
        super().__init__(out, data, scale, epochs)
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

    def report(self, seeds: list[int]) -> dict[str, Any]:
        """The content of the results file."""
        arms = {
            arm: {"fields": dotted(self.fields(arm)), "plan": self.plan(arm)} for arm in ARMS[1:]
        }
        runs: dict[tuple[str, int], dict[str, Any]] = {}
        here, machines, missing = facts(), list[dict[str, Any]](), list[str]()
        for arm, seed in units(seeds):
            row = runs.setdefault((arm, seed), {"arm": arm, "seed": seed})
            for kind in kinds(arm):
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


def units(seeds: list[int]) -> list[tuple[str, int]]:
    """All arms and seeds, a whole seed at a time."""
    return [(arm, seed) for seed in seeds for arm in ARMS]


def run_all(study: Study, seeds: list[int], options: argparse.Namespace) -> None:
    """Complete what is asked for, and write the results file after each cell."""
    todo = [(arm, s) for arm, s in units(seeds) if arm in options.arms and s in options.seeds]

    def wanted() -> list[tuple[str, int]]:
        study.load(todo)
        return [unit for unit in todo if not study.is_complete(*unit)]

    def publish() -> None:
        write_json(options.results, study.report(seeds))

    share(wanted, lambda unit: study.complete(*unit, then=publish))


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
        study.load(units(seeds))
        if options.known:
            study.know(options.known)
        run_all(study, seeds, options)
        study.load(units(seeds))  # what other commands have completed
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues")
    except ValueError as error:
        sys.exit(f"error: {error}")
    report = study.report(seeds)
    write_json(options.results, report)
    print(table(report))


if __name__ == "__main__":
    main()
