"""``python -m mae_et plan``: estimate what a run will cost, stage by stage, before paying for it.

FLOPs (`mae_et.model.flops`) give the shares and the speedups; `--measure` adds time, from real
steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..config import PretrainConfig
from ..config.parser import config_parser, parse
from ..errors import can_be_written, check


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The configuration, the data or an option is bad.
    """
    parser = config_parser(PretrainConfig, "mae_et plan", "Say what a run will cost.")
    parser.add_argument(
        "--processes", type=int | None, help="that train, else 1; those launched with --measure"
    )
    parser.add_argument(
        "--measure", action="store_true", help="time real steps on this device and this loader"
    )
    parser.add_argument(
        "--price_per_hour", type=float | None, help="of all processes together; needs --measure"
    )
    parser.add_argument(
        "--mae_size", type=int | None, help="full size of the MAE to compare with; else the run's"
    )
    parser.add_argument("--json", type=str | None, help="a file for the plan, or - to print it so")
    config, options = parse(parser, PretrainConfig, arguments, "mae_et")
    for name in ("processes", "price_per_hour", "mae_size"):
        value = options[name]
        check(value is None or 0 < value < math.inf, f"--{name}", value, "above 0")
    check(
        options.price_per_hour is None or options.measure,
        "--price_per_hour",
        options.price_per_hour,
        "together with --measure, which gives the hours",
    )
    allowed = "left out with --measure, which counts those launched"
    ok = options.processes is None or not options.measure
    check(ok, "--processes", options.processes, allowed)
    file = None if options.json in (None, "-") else Path(options.json)
    check(file is None or can_be_written(file), "--json", options.json, "a file to write to, or -")

    from ..planning.plan import describe, measured_plan, plan_from_flops
    from ..training import leaving

    with leaving():
        size, price, processes = options.mae_size, options.price_per_hour, options.processes or 1
        if options.measure:
            plan = measured_plan(config, mae_size=size, price_per_hour=price)
        else:
            plan = plan_from_flops(config, processes=processes, mae_size=size)
        if plan is not None:
            text = json.dumps(asdict(plan), indent=1)
            print(text if options.json == "-" else describe(plan))
            if file is not None:
                file.write_text(text + "\n")
