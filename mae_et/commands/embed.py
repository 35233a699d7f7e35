"""``python -m mae_et embed``: write the features of all images of a data set to a file.

It has a row per image, in the order of the data set: its file, its split, the name of its class if
there are labels, and its vector. Unreadable images are left out, and listed in OUT.bad_images.txt.
What the checkpoint knows of its encoder and images need not be given. The same command goes on with
what a killed one has computed, in OUT.parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ..config import EmbedConfig, check_local_path
from ..config.data import Layout
from ..config.line_parser import LineParser
from ..config.parser import add_images, add_resume, images_of, resume_of
from ..curriculum import Size
from ..errors import check
from ..workers import worker_context

TOLD = "told by the checkpoint if it knows"
"""What stands in for an option that is not given."""

FIRST = (
    *("checkpoint", "data.path", "out", "pool", "data.split", "data.num_workers"),
    *("run.mixed_precision", "batch_size", "overwrite", "resume"),
)
"""The options that --help shows."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: See `mae_et.embedding.embed`.
        RunStoppedError: The file cannot be written.
    """
    options = make_parser().parse_args(list(arguments))
    streaming = options["data.streaming"]
    allowed = "false: a stream has no order that can be gone on with"
    check(not streaming, "data.streaming", streaming, allowed)
    fields = vars(options.as_flat()).items()
    given: dict[str, Any] = {
        name.rpartition(".")[2]: value for name, value in fields if value is not None
    }
    del given["streaming"]
    given.pop("DATA", None)
    given["path"] = images_of(options)
    given["resume"] = resume_of(options)
    check_local_path("checkpoint", options.checkpoint)
    config = EmbedConfig(**given)  # raises what is wrong with the options before torch is imported
    if config.num_workers:
        worker_context()  # starts importing while this process does

    from ..embedding import embed
    from ..training import leaving

    with leaving():
        done = embed(**given)
    if done is not None:
        bad = f"; {done.num_bad_images:,} unreadable: {done.out}.bad_images.txt"
        print(f"{done.num_images:,} images: {done.out}{bad if done.num_bad_images else ''}")


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = LineParser(prog="mae-et embed", description=__doc__, first=FIRST)
    add = parser.add_argument
    add("--checkpoint", type=str, required=True, help="RUN, RUN/encoder, .pth, a timm folder, …")
    add_images(parser)
    add("--out", type=str, required=True, help="a .parquet, .npy or .csv file")
    add("--pool", type=Literal["avg", "token", "map"], help="the checkpoint's own way, or avg")
    add("--data.layout", type=Layout, default="auto", help="as for pretrain")
    add("--data.split", type=str, help="all splits by default, one after the other")
    add("--data.image_column", type=str, help="found if it is the only one")
    add("--data.label_column", type=str, help="found if there is one")
    add("--data.mean", type=list[float], help=f"one number per channel; {TOLD}")
    add("--data.std", type=list[float], help=f"one number per channel; {TOLD}")
    add("--data.eval_crop", type=float, help=f"share of the side that is seen; {TOLD}, or 0.875")
    add("--data.max_pixels", type=int, default=EmbedConfig.max_pixels, help="as for pretrain")
    add("--data.num_workers", type=int, default=EmbedConfig.num_workers, help="per process")
    add("--data.streaming", type=bool, default=False, help="not possible here")
    add("--model.encoder", type=str, help=f"name of a timm model; {TOLD}")
    add("--model.encoder_args", type=dict[str, Any], help="further arguments of it")
    add("--model.image_size", type=Size, help=f"pixels, or [height, width]; {TOLD}")
    add("--model.patch_size", type=Size, help=f"pixels, or [height, width]; {TOLD}")
    add("--model.in_chans", type=int, help=f"channels; {TOLD}")
    add("--run.mixed_precision", type=Literal["no", "fp16", "bf16"], help="as for pretrain")
    add("--batch_size", type=int, default=EmbedConfig.batch_size, help="per process")
    add("--overwrite", action="store_true", help="replace a file, and parts of other features")
    add_resume(parser)
    return parser
