"""``python -m mae_et report``: show what a set of runs cost and scored, on one page of HTML.

The page needs no other file and no network. Costs are those of pretraining; seconds are those of
training alone, as the runs measured them, without evaluations and checkpoints.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..config.parser import LineParser
from ..errors import can_be_written, check


def main(arguments: Sequence[str]) -> None:
    """Run the command ``mae_et report``.

    Raises:
        ValueError: A folder holds no runs or does not exist, or a package is missing.
    """
    parser = LineParser(prog="mae_et report", description=__doc__)
    parser.add_argument("runs", type=str, nargs="+", help="run folders, or folders that hold them")
    parser.add_argument("--out", type=str, default="report.html", help="the page")
    parser.add_argument("--title", type=str, default="Runs", help="its heading")
    parser.add_argument(
        "--no_reconstructions", action="store_true", help="open no images and no checkpoints"
    )
    options = parser.parse_args(list(arguments))
    out = Path(options.out)
    ok = out.suffix == ".html" and can_be_written(out)
    check(ok, "--out", options.out, "an .html file in a folder that exists")
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(f"report needs {error.name}: pip install 'mae-et[report]'") from error
    from ..report.page import build
    from ..runs import find_runs

    runs, skipped = find_runs(options.runs)
    command = shlex.join(["python", "-m", "mae_et", "report", *arguments])
    text = build(runs, skipped, options.title, command, not options.no_reconstructions)
    out.write_text(text, encoding="utf-8")
    print(f"report: {options.out}")
