r"""A training step beside those of transformers and lightly: time, memory, utilisation.

    pip install transformers lightly
    python scripts/bench_step.py                                            # ViT-S/16 on a CPU
    python scripts/bench_step.py --device cuda --precision bf16 --encoder vit_base_patch16_224 \
        --decoder 512x8x16 --batch 128 [--compile]

A step is forward, backward and optimizer (fused AdamW for all) of one batch, with the same encoder,
decoder, mask ratio and target. Ours is the step of the training loop, from uint8 images at full
size: it joins, crops and normalises them and checks its gradients; the others get images that are
ready. Each contender has a process to itself, a new one in every round and in another order, since
it matters which memory a process gets; the table has medians over the rounds, and of the ratios
within a round. Memory is what the first three steps need beyond the weights. Utilisation is the
model's FLOPs (matrix products alone) per second, as a share of those of one large matrix product in
the same precision and process; a peer is credited with the FLOPs of mae_et, so what it computes
beyond them for the same loss counts as lost. The share of the crop includes normalising.

Absolute times on a shared machine mean little: quote the ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
from support.decoders import DECODERS
from support.markdown import markdown
from support.peers import PEERS, Decoder
from support.peers import step as peer_step
from support.runs import facts, write_json
from support.timing import Step, median_ratio, median_seconds, rotated

from mae_et.build import build_curriculum, build_model, build_on_meta
from mae_et.config import (
    CurriculumConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    ProbeConfig,
    RunConfig,
    StageConfig,
)
from mae_et.errors import is_installed
from mae_et.model import training_flops
from mae_et.pretraining import Pretrainer
from mae_et.training import make_accelerator

FULL_SIZE = 224
OURS: dict[str, dict[str, Any]] = {
    "mae_et": DECODERS["self"],
    "mae_et, half decoded": DECODERS["self_half"],
    "mae_et, cross": DECODERS["cross"],
    "mae_et, cross, quarter decoded": DECODERS["cross_quarter"],
}
CONTENDERS = (*PEERS, *OURS)
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


def batch_at(size: int, options: argparse.Namespace) -> int:
    """Images of a step, which have as many pixels as a batch at full size."""
    return int(options.batch * FULL_SIZE**2 // size**2)


def our_model(name: str, options: argparse.Namespace) -> ModelConfig:
    """The configuration of one of our contenders."""
    decoder: Decoder = options.decoder
    return ModelConfig(
        encoder=options.encoder,
        image_size=FULL_SIZE,
        decoder_dim=decoder.dim,
        decoder_depth=decoder.depth,
        decoder_num_heads=decoder.num_heads,
        **OURS[name],
    )


def our_flops(name: str, size: int, options: argparse.Namespace) -> float:
    """FLOPs of a step on one image; of a peer, those of mae_et."""
    model = build_on_meta(our_model(name if name in OURS else "mae_et", options))
    return training_flops(model, size)


def our_trainer(name: str, size: int, options: argparse.Namespace) -> Pretrainer:
    """The trainer of a run that trains at this size, and then at full size."""
    batch, model = batch_at(size, options), our_model(name, options)
    stages = [StageConfig(size=size), StageConfig(size=FULL_SIZE)]
    config = PretrainConfig(
        model=model,
        curriculum=CurriculumConfig(name="stages", stages=stages),
        optim=OptimConfig(batch_size=batch, micro_batch_size=batch),
        data=DataConfig(),
        eval=EvalConfig(),
        probe=ProbeConfig(),
        run=RunConfig(mixed_precision=options.precision, compile=options.compile, tracker="none"),
    )
    accelerator = make_accelerator(config.run)
    module = build_model(config)
    curriculum = build_curriculum(config, module, num_images=batch)
    return Pretrainer(config, accelerator, module, curriculum)


def our_step(name: str, size: int, options: argparse.Namespace) -> Step:
    """The training loop's step on images as they come from the loader."""
    trainer = our_trainer(name, size, options)
    batch = batch_at(size, options)
    images = torch.randint(0, 256, (batch, 3, FULL_SIZE, FULL_SIZE), dtype=torch.uint8)
    noise = torch.rand(batch, trainer.unwrapped.num_units)
    device = trainer.accelerator.device
    chunk = {"image": images.to(device), "noise": noise.to(device), "unreadable": []}
    chunks = repeat(chunk)
    return lambda: trainer.train_step(0, chunks, 1)


def their_step(name: str, size: int, options: argparse.Namespace) -> Step:
    """A step of another library on images at this size."""
    peer = PEERS[name](options.encoder, options.decoder, size).to(options.device).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, fused=True)
    images = torch.randn(batch_at(size, options), 3, size, size, device=options.device)
    if options.compile:
        peer.compile(dynamic=False)
    return lambda: peer_step(peer, optimizer, images, DTYPES[options.precision])


def crop_step(size: int, options: argparse.Namespace) -> Step:
    """Our crop and normalisation alone."""
    trainer = our_trainer("mae_et", size, options)
    shape = (batch_at(size, options), 3, FULL_SIZE, FULL_SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=options.device)
    return lambda: trainer.crop(images, size)


def matrix_step(options: argparse.Namespace) -> Step:
    """A matrix product large enough to keep the device busy."""
    side = matrix_side(options)
    left, right = torch.randn(2, side, side, device=options.device, dtype=DTYPES[options.precision])
    return lambda: left @ right


def matrix_side(options: argparse.Namespace) -> int:
    """Rows and columns of the matrices of `matrix_step`."""
    return 2048 if options.device == "cpu" else 8192


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a contender's process measures; seconds are medians.

    Args:
        step: Seconds of a step.
        matrix: Seconds of a large matrix product.
        crop: Seconds of crop and normalisation; not a number for peers.
        memory: Peak of the first three steps, in bytes beyond what was there before.
    """

    step: float
    matrix: float
    crop: float
    memory: int


def memory_of(step: Step, options: argparse.Namespace) -> int:
    """The peak of the first three steps, in bytes beyond what was there before."""
    on_cpu = options.device == "cpu"
    if on_cpu:
        ctypes.CDLL(None).malloc_trim(0)  # else steps would use what building the model has freed
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    else:
        torch.cuda.reset_peak_memory_stats()
    before: int = psutil.Process().memory_info().rss if on_cpu else torch.cuda.memory_allocated()
    for _ in range(3):
        step()
    if on_cpu:
        status = Path("/proc/self/status").read_text()  # getrusage counts the parent's memory
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    else:
        peak = torch.cuda.max_memory_allocated()
    return peak - before


def sample(name: str, size: int, options: argparse.Namespace) -> Sample:
    """In a process of its own: build the step, take it three times, and measure it."""
    torch.set_num_threads(options.threads)
    step = (our_step if name in OURS else their_step)(name, size, options)
    memory = memory_of(step, options)
    seconds = partial(median_seconds, number=options.steps, device=options.device)
    return Sample(
        step=seconds(step),
        matrix=seconds(matrix_step(options)),
        crop=seconds(crop_step(size, options)) if name in OURS else math.nan,
        memory=memory,
    )


def measure(size: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the table for one size."""
    samples: dict[str, list[Sample]] = {name: [] for name in options.contenders}
    for number in range(options.rounds):
        for name in rotated(options.contenders, number):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                samples[name].append(process.submit(sample, name, size, options).result())
    batch, rows = batch_at(size, options), []
    product_flops = 2 * matrix_side(options) ** 3
    for name, own in samples.items():
        steps = [one.step for one in own]
        row: dict[str, Any] = {"size": size, "batch": batch, "name": name}
        row["images_per_s"] = batch / statistics.median(steps)
        for base in (*PEERS, "mae_et"):
            if base in samples:
                others = [one.step for one in samples[base]]
                row[f"speedup over {base}"] = median_ratio(others, steps)
        products = median_ratio([one.matrix for one in own], steps)
        row["utilisation"] = batch * our_flops(name, size, options) / product_flops * products
        row["memory_mib"] = statistics.median(one.memory for one in own) / 2**20
        if name in OURS:
            row["share of the crop"] = median_ratio([one.crop for one in own], steps)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, with a column for everything that a row has."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return markdown(columns, ([_cell(row.get(column, "")) for column in columns] for row in rows))


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def main() -> None:
    """Measure each contender at each size, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="vit_small_patch16_224", help="timm name")
    parser.add_argument(
        "--decoder",
        type=lambda text: Decoder(*map(int, text.split("x"))),
        default=Decoder(256, 4, 8),
        help="width x blocks x heads",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 192, 160, 96])
    parser.add_argument("--batch", type=int, default=16, help="images at 224; more at less")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="timed in each round")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="no", choices=DTYPES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--out", type=Path, help="the numbers as JSON")
    options = parser.parse_args()
    options.threads = torch.get_num_threads()
    options.contenders = list(options.contenders)
    if options.device == "cpu":  # else accelerate would put our models on a GPU that is there
        os.environ["ACCELERATE_USE_CPU"] = "true"
    for peer in set(PEERS) & set(options.contenders):
        if not is_installed(peer):
            parser.error(f"--contenders: {peer} is not installed; pip install {peer}")
    rows = [row for size in options.sizes for row in measure(size, options)]
    setting = {name: str(value) for name, value in vars(options).items()} | facts()
    if options.out:
        write_json(options.out, {**setting, "rows": rows})
    print(setting)
    print(table(rows))


if __name__ == "__main__":
    main()
