"""Draw what a masked autoencoder sees and reconstructs at each input size of its run.

Reconstructions of normalised pixels are shown with the mean and variance of the true patches, which
the model never sees: a visual aid, not a measure of quality. Histograms of oriented gradients
are drawn as a star of strokes per cell, along the edges.

One channel is shown, or three. Values of more than 8 bits are shown from two standard deviations
below the channel's mean to two above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config.line_parser import LineParser
from ..errors import check, is_installed


def main(arguments: Sequence[str]) -> None:
    """Run the command ``mae_et reconstruct``.

    Raises:
        ValueError: The checkpoint, the data or matplotlib is missing.
    """
    options = make_parser().parse_args(list(arguments))
    out, kinds = Path(options.out), (".png", ".jpg", ".pdf", ".svg")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    is_file = out.suffix.lower() in kinds and not out.is_dir() and above.is_dir()
    check(is_file, "--out", options.out, f"a file with one of {', '.join(kinds)}")
    check(options.num_images > 0, "--num_images", options.num_images, "above 0")
    check(options.seed >= 0, "--seed", options.seed, "at least 0")
    if not is_installed("matplotlib"):
        raise ValueError("reconstruct needs matplotlib: pip install -e '.[report]' in the clone")

    from ..report.reconstruct import picture

    path, split = options["data.path"], options["data.split"]
    rest = {name: options[name] for name in ("sizes", "num_images", "channels", "seed")}
    figure = picture(Path(options.checkpoint), path=path, split=split, **rest)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    print(f"picture: {options.out}")


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et reconstruct", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=str, required=True, help="RUN, a checkpoint, .pth, or hub:OWNER/NAME"
    )
    parser.add_argument("--data.path", type=str, help="images; those of the run by default")
    parser.add_argument("--data.split", type=str, help="their split; the run's held-out images")
    parser.add_argument("--out", type=str, default="reconstructions.png", help="the picture")
    parser.add_argument("--sizes", type=list[int], help="input sizes; those of the run by default")
    parser.add_argument("--num_images", type=int, default=6, help="rows of the picture")
    parser.add_argument(
        "--channels", type=list[int], help="one, or three as RGB, from 0; the first by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses images and masks")
    return parser
