"""The options that the plans of pretraining and of supervised training share."""

from __future__ import annotations

import math
from pathlib import Path

from jsonargparse import Namespace

from ..errors import can_be_written, check
from .line_parser import LineParser


def add_plan_options(parser: LineParser) -> None:
    """Add them to a parser."""
    add = parser.add_argument
    add("--processes", type=int | None, help="that train, else 1; those launched with --measure")
    add("--measure", action="store_true", help="time real steps on this device and this loader")
    add("--price_per_hour", type=float | None, help="of all processes together; needs --measure")
    add("--json", type=str | None, help="a file for the plan, or - to print it so")


def check_plan_options(options: Namespace, further: str, *, is_measured: bool) -> None:
    """Check them, and that numbers are above 0.

    Args:
        options: The options, as parsed.
        further: The name of a further option that is a number.
        is_measured: Whether steps are measured.

    Raises:
        ValueError: An option is bad.
    """
    for name in ("processes", "price_per_hour", further):
        value = options[name]
        check(value is None or 0 < value < math.inf, f"--{name}", value, "above 0")
    price, to = options["price_per_hour"], options["json"]
    allowed = "together with --measure, which gives the hours"
    check(price is None or is_measured, "--price_per_hour", price, allowed)
    ok = to in (None, "-") or can_be_written(Path(to))
    check(ok, "--json", to, "a file to write to, or -")
