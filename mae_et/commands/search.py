"""``python -m mae_et search``: search for the input sizes that the stages of a run should have.

The methods are described in `mae_et.planning.search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..config import PretrainConfig
from ..config.line_parser import LineParser
from ..config.parser import config_parser, parse
from ..curriculum import Size
from ..errors import can_be_written, check

DESCRIPTION = "Search the sizes of a run's stages."

FIRST = (
    *("config", "data.path", "method", "budget", "stages", "sizes", "epochs", "seeds", "score"),
    *("tolerance", "phase", "out"),
)
"""The options that --help shows."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The configuration, the data or an option is bad.
        RunInterruptedError: A signal asked the search to stop; the same command resumes it.
        RunStoppedError: A run cannot continue.
    """
    config, options = parse(make_parser(), PretrainConfig, arguments, "mae_et")
    folder = Path(config.run.output_dir)
    out = folder / "recipe.yaml" if options.out is None else Path(options.out)
    check(options.out is None or can_be_written(out), "--out", options.out, "a file to write to")

    from ..planning.search import search
    from ..training import leaving

    with leaving():
        search(config, options, out, arguments)


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = config_parser(PretrainConfig, "mae-et search", DESCRIPTION, FIRST)
    add = parser.add_argument
    add(
        "--method",
        type=Literal["greedy", "sequential"],
        default="greedy",
        help="see the docs",
    )
    add("--budget", type=Literal["small", "full"], default="small", help="defaults of the next")
    add("--stages", type=int | None, help="of a schedule; the last has the full size")
    add("--sizes", type=list[Size] | None, help="candidates, in pixels; the full size is one")
    add("--epochs", type=float | None, help="of each run, in place of optim.epochs")
    add("--seeds", type=int | None, help="runs of each schedule, whose scores are averaged")
    add("--score", type=Literal["linear", "knn"], default="linear", help="the probe")
    add("--tolerance", type=float, default=0.5, help="greedy: points that a size may lose")
    add("--phase", type=float, default=0.2, help="sequential: at full size, share of a stage")
    add("--out", type=str | None, help="the recipe; null for recipe.yaml in run.output_dir")
    return parser
