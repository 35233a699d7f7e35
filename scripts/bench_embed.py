"""Images per second and memory of `mae-et embed`, and how far its features are from timm's.

    python scripts/bench_embed.py [--images 10000 100000] [--processes 1] [--workers 1]

The embedded images, as often as it takes, are rows of Parquet files; the encoder is the demo's,
with new weights. Of every process the memory of its own is sampled each second. That of the main
process is shown for each quarter of the time: the first has the copy that `datasets` makes of the
files, the last has the file of features, and those between show whether it grows with the images.
The features of the first 2,000 images are compared with those of timm alone, from its transforms.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from support.image_shards import write_shards
from support.runs import ROOT, configuration, write_json

from mae_et.build import build_model
from mae_et.weights import export_encoder

COMPARED = 2_000


def make_images(folder: Path, number: int) -> None:
    """Write the embedded images to Parquet files, as often as it takes."""
    embedded = datasets.load_dataset("parquet", data_dir="scripts/data/fashion_mnist")
    rows = embedded["train"].cast_column("image", datasets.Image(decode=False))["image"]
    write_shards(folder, (row["bytes"] for row in islice(cycle(rows), number)))


def make_encoder(folder: Path) -> None:
    """Write the demo's encoder with new weights."""
    config = configuration("mae_et", {})
    export_encoder(build_model(config), folder, mean=config.data.mean, std=config.data.std)


def embed(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run the command, and return its seconds and what memory its processes had of their own."""
    command = [sys.executable, "-m"]
    if options.processes > 1:
        command += ["accelerate.commands.launch", "--multi_gpu", "--mixed_precision=no"]
        command += [f"--num_processes={options.processes}", "--num_machines=1"]
        command += ["--dynamo_backend=no", "-m"]
    command += ["mae_et", "embed", f"--checkpoint={folder / 'encoder'}", "--batch_size=64"]
    command += [f"--data.path=parquet:{folder / 'images'}", f"--out={folder / 'features.parquet'}"]
    command += [f"--data.num_workers={options.workers}", "--overwrite"]
    began = time.perf_counter()
    main, others = list[float](), list[float]()
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "ACCELERATE_USE_CPU": "true"}
    ) as process:
        while process.poll() is None:
            with suppress(psutil.Error):
                first = psutil.Process(process.pid)
                main.append(first.memory_full_info().uss / 2**20)
                own = [p.memory_full_info().uss / 2**20 for p in first.children(recursive=True)]
                others.append(sum(own))
            time.sleep(1)
    if process.returncode:
        sys.exit(process.returncode)
    quarters = np.array_split(np.array(main), 4)
    return {
        "s": time.perf_counter() - began,
        **{f"MiB of main in quarter {n}": part.max() for n, part in enumerate(quarters, 1)},
        "MiB of all others": max(others, default=0.0),
    }


def difference_from_timm(folder: Path) -> float:
    """The largest difference of the features of some images from those of timm alone."""
    vectors = pq.read_table(folder / "features.parquet").column("vector")
    ours = np.stack(vectors.slice(0, COMPARED).to_pylist())
    rows = pq.read_table(folder / "images").column("image").slice(0, len(ours)).to_pylist()
    encoder: Any = timm.create_model(
        f"local-dir:{folder / 'encoder'}", pretrained=True, global_pool="avg"
    )
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))
    images = [Image.open(io.BytesIO(row["bytes"])).convert("L") for row in rows]
    with torch.inference_mode():
        theirs = encoder.eval()(torch.stack([transform(image) for image in images]))
    return float(np.abs(ours - theirs.numpy()).max())


def main() -> None:
    """Measure each number of images, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    results: dict[str, dict[str, float]] = {}
    for number in options.images:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "images").mkdir()
            make_images(folder / "images", number)
            make_encoder(folder / "encoder")
            found = embed(folder, options)
            found["images/s"] = number / found["s"]
            found["largest difference from timm"] = difference_from_timm(folder)
        results[f"{number:,} images"] = found
        shown = ", ".join(f"{value:.3g} {key}" for key, value in found.items())
        print(f"{number:,} images: {shown}", flush=True)
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
