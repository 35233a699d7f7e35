"""``python -m mae_et export``: write what a run has learned for timm, transformers or ONNX.

RUN is a pretraining run (its encoder; for transformers a plain ViT with the decoder of the last
checkpoint), a fine-tuning run (its best classifier), one of their timm folders, or a name such as
hub:OWNER/NAME. The card states the licence that you give with --license, and no other: what was
trained from the weights of others also tells theirs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..config.line_parser import LineParser
from ..errors import check


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: See `mae_et.weights.export`.
    """
    options = make_parser().parse_args(list(arguments))
    repository, out = options.push_to_hub, Path(options.out)
    named = repository is None or re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is not None
    check(named, "--push_to_hub", repository, "OWNER/NAME")
    check(not options.private or repository is not None, "--push_to_hub", repository, "given")
    licence = options.license
    ok = licence is None or re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence) is not None
    check(ok, "--license", licence, "an identifier of the Hub, such as apache-2.0 or cc-by-nc-4.0")

    from ..weights.export import export, push

    export(options.checkpoint, options.format, out, repository, licence)
    print(f"{options.format}: {out}")
    if repository is not None:
        print(f"uploaded: {push(out, repository, private=options.private)}")


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et export", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=str, required=True, help="RUN, RUN/encoder, RUN/best, hub:OWNER/NAME"
    )
    parser.add_argument(
        "--format",
        choices=["timm", "transformers", "onnx"],
        required=True,
        help="who is to open it",
    )
    parser.add_argument("--out", type=str, required=True, help="the folder; new or empty")
    parser.add_argument("--push_to_hub", type=str, help="OWNER/NAME on the Hub, to upload to")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    parser.add_argument("--license", type=str, help="yours, as the Hub writes it: apache-2.0, mit")
    return parser
