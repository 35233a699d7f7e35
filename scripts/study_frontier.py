"""How much wall time can a recipe save before it loses accuracy against constant size?

    apt-get install dataset-fashion-mnist
    pip install -e '.[test]'                     # SciPy, for the intervals
    OMP_NUM_THREADS=1 python scripts/study_frontier.py
    python scripts/study_frontier.py --publish   # what is complete, to scripts/results
    python scripts/study_frontier.py --table     # the tables of that file

The network, the images and the arm constant are those of `scripts/study.py`. The recipes, and the
order in which they are searched, are in `scripts/support/frontier.py`.

Nothing is chosen by the test images. In the search, with seeds of its own, encoders are fine-tuned
and probed on as many labels as in `study.py`, and measured on as many other training images. The
cheapest recipe with both scores above those of constant, and the next dearer one, are then
pretrained with new seeds, beside constant, and measured on the 10,000 test images.

Costs are planned FLOPs, and the seconds of training steps with their loading, relative to constant
of the same seed. For seconds that mean something, give each command a core of its own (`taskset`),
and let nothing else run.

Stop it at any time: the same command continues. A cell of another configuration than the one wanted
is an error. Several commands may run side by side in one folder: each takes cells that no other is
at, those of constant where the search has to wait for another command, and waits if none is left.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from support.arms import SCALES, WARMUP, arm_fields
from support.cells import LABEL_SHARE, Cells
from support.clothes import fashion_mnist, labelled
from support.frontier import CHOSEN_BY, ORDER, Recipe, finalists, ladder, search
from support.frontier_table import tables
from support.runs import ROOT, configuration, dotted, facts, share, write_json

from mae_et.build import build_model_on_meta
from mae_et.model.flops import training_flops

RESULTS = ROOT / "scripts" / "results" / "frontier.json"

CONSTANT = "constant"

Unit = tuple[str, int]
"""An arm (constant, or the name of a recipe) and a seed."""


class Frontier(Cells):
    """The search, and the cells that it needs.

    Args:
        out: The work folder, absolute.
        data: The runs' `data.path`.
        scale: How large the study is.
        epochs: Epochs of constant.
        search_seeds: Seeds of the search.
        seeds: Seeds of what it has found.
    """

    def __init__(
        self,
        *args: Any,
        search_seeds: Sequence[int],
        seeds: Sequence[int],
    ) -> None:
        super().__init__(*args)
        self.search_seeds, self.seeds = search_seeds, seeds
        self.recipes: dict[str, Recipe] = {}
        """Name -> recipe, of those that the search has come to, in its order."""
        self.step_cost = cache(lambda arm: step_flops(self._settings(arm)))
        """Arm -> FLOPs of a full-size step on an image."""

    def fields(self, arm: str) -> dict[str, object]:
        """Fields of an arm's pretraining, without its seed."""
        epochs = self.epochs
        if arm != CONSTANT:
            ratio = self.step_cost(CONSTANT) / self.step_cost(arm)
            epochs *= self.recipes[arm].budget * ratio
        length = {"optim__epochs": epochs, "optim__warmup_epochs": epochs * WARMUP}
        return self._settings(arm) | length

    def _settings(self, arm: str) -> dict[str, object]:
        if arm == CONSTANT:
            return arm_fields(self.scale, arm)
        return self.scale.network | self.scale.pretraining | self.recipes[arm].fields()

    def labels(self, seed: int) -> dict[str, object]:
        """Fields that choose labelled images: in the search, training images to be measured on."""
        if seed in self.seeds:
            return super().labels(seed)
        return labelled(self.data, 2 * LABEL_SHARE, seed) | {"data__fold": "[1, 2]"}

    def scores(self, arm: str) -> list[float] | None:
        """The mean accuracies by which the search chooses; None before all are known."""
        runs = [(arm, seed) for seed in self.search_seeds]
        if not all(self.is_complete(*run) for run in runs):
            return None
        return [mean(self.results[*run, metric] for run in runs) for metric in CHOSEN_BY]

    def find(self, recipes: Sequence[Recipe]) -> dict[Recipe, list[float]]:
        """The scores of those recipes of which all are known."""
        self.recipes |= {recipe.name: recipe for recipe in recipes}
        self.load([(recipe.name, seed) for recipe in recipes for seed in self.search_seeds])
        found = {recipe: self.scores(recipe.name) for recipe in recipes}
        return {recipe: scores for recipe, scores in found.items() if scores is not None}

    def searched(self) -> tuple[Recipe, list[Recipe], list[Recipe]]:
        """The best recipe so far, those to be tried next, and what has been found in the end."""
        scores: dict[Recipe, float] = {}
        best, missing = search(scores)
        while missing:
            found = self.find(missing)
            if len(found) < len(missing):
                return best, [recipe for recipe in missing if recipe not in found], []
            scores |= {recipe: mean(values) for recipe, values in found.items()}
            best, missing = search(scores)
        found = self.find(ladder(best))
        missing = [recipe for recipe in ladder(best) if recipe not in found]
        constant = self.scores(CONSTANT)
        if missing or constant is None:
            return best, missing, []
        gains = {
            recipe: [own - other for own, other in zip(values, constant, strict=True)]
            for recipe, values in found.items()
        }
        return best, [], finalists(ladder(best), gains)

    def wanted(self) -> list[Unit]:
        """What is still to be run, in order."""
        self.load([(CONSTANT, seed) for seed in (*self.search_seeds, *self.seeds)])
        _, missing, found = self.searched()
        units = [(CONSTANT, seed) for seed in self.search_seeds]
        units += [(recipe.name, seed) for recipe in missing for seed in self.search_seeds]
        last = [(arm, s) for s in self.seeds for arm in (CONSTANT, *(r.name for r in found))]
        self.load(last)
        return [unit for unit in units + last if not self.is_complete(*unit)]

    def report(self) -> dict[str, Any]:
        """The results of all complete cells."""
        self.wanted()  # finds what is complete
        best, missing, found = self.searched()
        recipes = {
            name: {
                "settings": {setting: getattr(recipe, setting) for setting in (*ORDER, "budget")},
                "fields": dotted(self.fields(name)),
                "flops": self.plan(name)["exaflops"] / self.plan(CONSTANT)["exaflops"],
            }
            for name, recipe in self.recipes.items()
        }
        runs: dict[Unit, dict[str, Any]] = {}
        for (arm, seed, kind), result in self.results.items():
            row = runs.setdefault((arm, seed), {"arm": arm, "seed": seed, "machine": 0})
            row[kind] = result
        return {
            "epochs": self.epochs,
            "search_seeds": [*self.search_seeds],
            "seeds": [*self.seeds],
            "best": best.name,
            "still to be tried": [recipe.name for recipe in missing],
            "finalists": [recipe.name for recipe in found],
            "recipes": recipes,
            "runs": [row for (arm, seed), row in runs.items() if self.is_complete(arm, seed)],
            "machines": [facts()],
        }


def step_flops(fields: Mapping[str, object]) -> float:
    """Return the FLOPs of a full-size step on an image."""
    model = build_model_on_meta(configuration("mae_et", fields))
    return float(training_flops(model, model.full_size))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/frontier"))
    parser.add_argument("--data", type=Path, default=Path("runs/study/fashion_mnist"))
    parser.add_argument("--epochs", type=float, default=2.0, help="epochs of constant")
    parser.add_argument("--search_seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--publish", action="store_true", help=f"write {RESULTS.name}, and no more")
    ways.add_argument("--table", action="store_true", help=f"print {RESULTS.name}, and no more")
    options = parser.parse_args(arguments)
    if not options.epochs > 0:
        parser.error(f"--epochs must be above 0, got {options.epochs}")
    both = [*options.search_seeds, *options.seeds]
    if min(both) < 0 or len({*both}) < len(both):
        parser.error(f"--search_seeds and --seeds must be different, and at least 0, got {both}")
    options.out = options.out.resolve()
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells that are missing, and print the tables."""
    options = parse_arguments(arguments)
    if options.table:
        print(tables(json.loads(RESULTS.read_text())))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    frontier = Frontier(
        *(options.out, fashion_mnist(options.data.resolve()), SCALES["cpu"], options.epochs),
        search_seeds=options.search_seeds,
        seeds=options.seeds,
    )
    try:
        if not options.publish:
            share(frontier.wanted, lambda unit: frontier.complete(*unit))
        results = frontier.report()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues")
    except ValueError as error:
        sys.exit(f"error: {error}")
    write_json(RESULTS if options.publish else options.out / "results.json", results)
    print(tables(results))


if __name__ == "__main__":
    main()
