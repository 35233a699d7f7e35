"""``python -m mae_et plan``: estimate what a run will cost, stage by stage, before paying for it.

FLOPs (`mae_et.model.flops`) give the shares and the speedups; `--measure` adds time, from real
steps.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import PretrainConfig
from ..config.line_parser import LineParser
from ..config.parser import config_parser
from ..config.plan_options import add_plan_options, check_plan_options
from ..config.request import Request, add_automatic
from ..errors import check, forget_said
from .automatic import complete, show

if TYPE_CHECKING:
    from ..planning.forecast import Plan

DESCRIPTION = """Say what a run will cost: by a recipe (--config), or on images alone (DATA),
for which all settings are chosen and shown, as `pretrain` would."""

FIRST = (
    *("images_path", "hours", "config", "measure", "processes", "price_per_hour", "json"),
    *("data.num_images", "model.encoder", "model.image_size", "curriculum.name"),
    *("optim.epochs", "optim.batch_size"),
)
"""The options that --help shows."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The configuration, the data or an option is bad.
    """
    began = time.monotonic()
    request = _request(arguments)

    from ..planning.plan import show_plan
    from ..training import leaving

    with leaving():
        plan = _plan(request, began)
        if plan is not None:
            show_plan(plan, request.options.json)


def plan_of(arguments: Sequence[str], began: float) -> Plan | None:
    """Plan what a command line asks for.

    Args:
        arguments: The command line.
        began: When it was given, by `time.monotonic`.

    Returns:
        The plan, in the main process; None in the others if steps were measured.

    Raises:
        ValueError: As in `main`.
    """
    return _plan(_request(arguments), began)


def _request(arguments: Sequence[str]) -> Request[PretrainConfig]:
    """Parse a command line, and check its options."""
    forget_said()
    request = Request(make_parser(), PretrainConfig, arguments, "mae_et")
    options = request.options
    is_measured = options.measure or (request.names_images and request.recipe is None)
    check_plan_options(options, "mae_size", is_measured=is_measured)
    allowed = "left out where steps are measured, which counts those launched"
    ok = options.processes is None or not is_measured
    check(ok, "--processes", options.processes, allowed)
    if not request.is_automatic:
        request.make({})  # raises what is wrong with the settings before torch is imported
    return request


def _plan(request: Request[PretrainConfig], began: float) -> Plan | None:
    options, completed = request.options, complete(request, began=began)

    from ..planning.plan import automatic_plan, measured_plan, plan_from_flops

    size, price, processes = options.mae_size, options.price_per_hour, options.processes or 1
    if not isinstance(completed, PretrainConfig):
        show(completed)
        times = completed.speed.steps
        return automatic_plan(completed.config, times, mae_size=size, price_per_hour=price)
    if options.measure:
        return measured_plan(completed, mae_size=size, price_per_hour=price)
    return plan_from_flops(completed, processes=processes, mae_size=size)


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = config_parser(PretrainConfig, "mae-et plan", DESCRIPTION, FIRST)
    add_automatic(parser)
    add_plan_options(parser)
    parser.add_argument(
        "--mae_size", type=int | None, help="full size of the MAE to compare with; else the run's"
    )
    return parser
