"""``python -m mae_et report``: show what a set of runs cost and scored, on one page of HTML.

The page needs no other file and no network. Costs are those of pretraining; seconds are those of
training alone, as the runs measured them, without evaluations and checkpoints.

Runs may be a stranger's: no images that they name are opened unless you ask for reconstructions.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..config.line_parser import LineParser
from ..errors import can_be_written, check, is_installed


def main(arguments: Sequence[str]) -> None:
    """Run the command ``mae_et report``.

    Raises:
        ValueError: A folder holds no runs or does not exist, or a package is missing.
    """
    options = make_parser().parse_args(list(arguments))
    out = Path(options.out)
    ok = out.suffix == ".html" and can_be_written(out)
    check(ok, "--out", options.out, "an .html file in a folder that exists")
    path, split = options["data.path"], options["data.split"]
    is_drawn, is_left_out = options.reconstructions or path is not None, options.no_reconstructions
    allowed = "left out with --reconstructions or --data.path"
    check(not (is_drawn and is_left_out), "--no_reconstructions", is_left_out, allowed)
    check(split is None or path is not None, "--data.split", split, "together with --data.path")
    for package in ("jinja2", "matplotlib"):
        if not is_installed(package):
            raise ValueError(f"report needs {package}: pip install -e '.[report]' in the clone")
    from ..report.page import build
    from ..report.sections import Drawing
    from ..runs import find_runs

    runs, skipped = find_runs(options.runs)
    command = shlex.join(["python", "-m", "mae_et", "report", *arguments])
    drawing = Drawing(True if is_drawn else False if is_left_out else None, path, split)
    text = build(runs, skipped, options.title, command, drawing)
    out.write_text(text, encoding="utf-8", errors="replace")  # names of files may be of any bytes
    print(f"report: {options.out}")


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et report", description=__doc__)
    parser.add_argument(
        "runs", type=str, nargs="+", metavar="RUN", help="a run, or a folder of runs"
    )
    parser.add_argument("--out", type=str, default="report.html", help="the page")
    parser.add_argument("--title", type=str, default="Runs", help="its heading")
    parser.add_argument(
        "--reconstructions",
        action="store_true",
        help="draw what the runs reconstruct of their own held-out images, on this machine",
    )
    parser.add_argument("--data.path", type=str, help="images to draw instead, as for pretrain")
    parser.add_argument("--data.split", type=str, help="their split; the held-out images")
    parser.add_argument("--no_reconstructions", action="store_true", help="leave them out")
    return parser
