"""Seconds and memory from a command to its first line and to the end of its first step.

    python scripts/bench_start.py [--images 1000 100000] [--kinds folder parquet tar] [--json FILE]

The command is `pretrain --config demo`, with a line for every step, on as many images of 28 pixels:
files in 100 folders, rows of Parquet files, or members of tars. Each start is a process of its own,
stopped after its first step; medians over the rounds are printed. The first start on tars makes
their index, so it is shown on its own. "CPU s" are those of the command and of all its processes.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import psutil
from PIL import Image
from support.image_shards import SHARD, write_shards
from support.runs import ROOT, write_json

FOLDERS = 100
"""Classes of a folder of images."""


def picture(index: int) -> bytes:
    """A small PNG of noise, one of 256."""
    noise = np.random.default_rng(index % 256).integers(0, 256, (28, 28), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


def make_folder(root: Path, number: int) -> str:
    """Files in folders of classes."""
    pictures = [picture(index) for index in range(256)]
    for index in range(number):
        folder = root / f"class_{index % FOLDERS:02d}"
        folder.mkdir(exist_ok=True)
        (folder / f"{index:07d}.png").write_bytes(pictures[index % 256])
    return str(root)


def make_parquet(root: Path, number: int) -> str:
    """Rows of Parquet files."""
    pictures = [picture(index) for index in range(256)]
    write_shards(root, (pictures[index % 256] for index in range(number)))
    return f"parquet:{root}"


def make_tars(root: Path, number: int) -> str:
    """Members of tars, as in WebDataset."""
    pictures = [picture(index) for index in range(256)]
    for start in range(0, number, SHARD):
        with tarfile.open(root / f"train-{start // SHARD:05d}.tar", "w") as tar:
            for index in range(start, min(start + SHARD, number)):
                member = tarfile.TarInfo(f"{index:07d}.png")
                member.size = len(pictures[index % 256])
                tar.addfile(member, io.BytesIO(pictures[index % 256]))
    return f"webdataset:{root}"


KINDS: dict[str, Callable[[Path, int], str]] = {
    "folder": make_folder,
    "parquet": make_parquet,
    "tar": make_tars,
}


def start_once(data: str, workers: int) -> dict[str, float]:
    """Start a run, and stop it after its first step."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(sys.executable, "-m", "mae_et", "pretrain", "--config=demo", f"--data.path={data}"),
            *(f"--run.output_dir={out}/run", "--run.log_every=1", "--run.progress=false"),
            *("--run.tracker=none", f"--data.num_workers={workers}", "--run.checkpoint_every=null"),
        ]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        found: dict[str, float] = {}
        lines = []
        for line in process.stdout:
            lines.append(line)
            found.setdefault("s to first line", time.perf_counter() - began)
            if line.startswith("step 1 "):
                found["s to first step"] = time.perf_counter() - began
                found |= resources(psutil.Process(process.pid))
                break
        process.terminate()
        process.stdout.read()
        process.wait()
    if "s to first step" not in found:
        sys.exit("".join(lines))
    return found


def resources(main: psutil.Process) -> dict[str, float]:
    """CPU seconds of a process and its descendants, and the memory that each needs of its own."""
    descendants = main.children(recursive=True)
    own = [process.memory_full_info().uss / 2**20 for process in descendants]
    times = [process.cpu_times() for process in (main, *descendants)]
    return {
        "CPU s": sum(one.user + one.system for one in times),
        "MiB of main": main.memory_full_info().uss / 2**20,
        "MiB of the largest other": max(own, default=0.0),
    }


def measure(kind: str, number: int, workers: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the first start, and the medians of the others."""
    with tempfile.TemporaryDirectory() as folder:
        data = KINDS[kind](Path(folder), number)
        starts = [start_once(data, workers) for _ in range(rounds + 1)]
    later = {key: statistics.median(one[key] for one in starts[1:]) for key in starts[0]}
    return {"first": starts[0], "later": later}


def main() -> None:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="after the first start")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for kind in options.kinds:
        for number in options.images:
            name = f"{kind}, {number:,} images"
            results[name] = measure(kind, number, options.workers, options.rounds)
            for start, values in results[name].items():
                shown = ", ".join(f"{value:.2f} {key}" for key, value in values.items())
                print(f"{name}, {start}: {shown}", flush=True)
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
