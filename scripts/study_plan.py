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

from support.runs import facts, run

from mae_et.runs.files import read_metrics

FIELDS: dict[str, object] = {
    "optim__epochs": 2,
    "optim__warmup_epochs": 0.5,
    "run__tracker": "none",
}


def real_shares(folder: Path) -> dict[str, float]:
    """Size -> share of the time of training steps, which evaluations are not part of."""
    seconds: dict[str, float] = {}
    for line in read_metrics(folder):
        if "seconds" in line:
            seconds[str(line["size"])] = seconds.get(str(line["size"]), 0) + line["seconds"]
    return {size: value / sum(seconds.values()) for size, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curriculum", default="efficienttrain")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    fields = {**FIELDS, "curriculum__name": options.curriculum}

    plans, real = [], []
    for number in range(options.rounds):
        file, folder = options.out / f"plan_{number}.json", options.out / f"run_{number}"
        run("mae_et", folder, "plan", "--config=demo", "--measure", f"--json={file}", **fields)
        run("mae_et", folder, "pretrain", "--config=demo", **fields)
        plans.append(
            {str(stage["size"]): stage for stage in json.loads(file.read_text())["stages"]}
        )
        real.append(real_shares(folder))

    print("| size | share of FLOPs | planned, measured steps | real run | planned ÷ real |")
    print("|---|---|---|---|---|")
    for size, stage in plans[0].items():
        planned = median(plan[size]["time"] for plan in plans)
        seen = median(shares[size] for shares in real)
        print(
            f"| {size} | {stage['cost']:.1%} | {planned:.1%} | {seen:.1%} | {planned / seen:.2f} |"
        )
    (options.out / "results.json").write_text(
        json.dumps({"plans": plans, "real": real, **facts()}, indent=1)
    )


if __name__ == "__main__":
    main()
