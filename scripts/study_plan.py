"""Planned against real: the share of a run's time that each of its stages takes.

    python scripts/study_plan.py --out runs/plan_study --rounds 5

A round plans the demo (cut to two epochs) with measured steps, and then runs it. Rounds alternate
the two because other work on the machine slows either; the table has the medians of the shares.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from support.markdown import markdown
from support.metrics import totals_by_size
from support.runs import facts, run, write_json

FIELDS: dict[str, object] = {
    "optim__epochs": 2,
    "optim__warmup_epochs": 0.5,
    "run__tracker": "none",
}


def real_shares(folder: Path) -> dict[str, float]:
    """Size -> share of the time of training steps, which excludes evaluations."""
    totals = totals_by_size(folder)
    seconds = sum(total.seconds for total in totals.values())
    return {str(size): total.seconds / seconds for size, total in totals.items()}


def main() -> None:
    """Plan and run in turns, and compare the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curriculum", default="efficienttrain")
    options = parser.parse_args()
    out = options.out.resolve()  # runs start in the root of the repository
    out.mkdir(parents=True, exist_ok=True)
    fields = {**FIELDS, "curriculum__name": options.curriculum}

    plans, real = [], []
    for number in range(options.rounds):
        file, folder = out / f"plan_{number}.json", out / f"run_{number}"
        run("mae_et", folder, "plan", "--config=demo", "--measure", f"--json={file}", **fields)
        run("mae_et", folder, "pretrain", "--config=demo", **fields)
        plans.append(
            {str(stage["size"]): stage for stage in json.loads(file.read_text())["stages"]}
        )
        real.append(real_shares(folder))

    header = ("size", "share of FLOPs", "planned, measured steps", "real run", "planned ÷ real")
    rows = []
    for size, stage in plans[0].items():
        planned = median(plan[size]["time"] for plan in plans)
        seen = median(shares[size] for shares in real)
        row = (size, f"{stage['cost']:.1%}", f"{planned:.1%}", f"{seen:.1%}")
        rows.append((*row, f"{planned / seen:.2f}"))
    print(markdown(header, rows))
    write_json(out / "results.json", {"plans": plans, "real": real, **facts()})


if __name__ == "__main__":
    main()
