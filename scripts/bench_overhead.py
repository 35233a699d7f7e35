"""What a training step costs beside the model's own work, against a loop of plain PyTorch.

    python scripts/bench_overhead.py [--json FILE]
    OMP_NUM_THREADS=1 accelerate launch --cpu --num_processes 2 --num_machines 1 \
        --mixed_precision no --dynamo_backend no scripts/bench_overhead.py

Both loops train the same small MAE on the same batches at full size. The plain one has nothing but
forward, backward, the fused AdamW and, with several processes, DDP; its images are ready. Ours is
the loop of a run: images of worker processes, joined, normalised and checked, learning rate,
gradient norm, meters, a log every 50 steps, and the vote on signals. They alternate in blocks of
steps; the table has medians over the blocks, in microseconds of this process's CPU and of the
clock. The difference does not grow with the model, but for the norms and checks of its gradients.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from support.runs import facts, write_json
from torch.nn.parallel import DistributedDataParallel

from mae_et.build import build_images, build_model
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.pretraining import Pretrainer
from mae_et.training import make_accelerator
from mae_et.training.loop import Loop
from mae_et.training.run_folder import RunFolder

BLOCK = 50
"""Steps of one loop before it is the other one's turn."""


def configuration(folder: str, workers: int) -> PretrainConfig:
    """A run of the demo's images at constant size, longer than any measurement."""
    options = [
        *("--config=demo", "--curriculum.name=constant", "--optim.epochs=1000"),
        "--model.encoder_args={embed_dim: 32, depth: 2, num_heads: 2}",
        *("--model.decoder_depth=1", "--model.decoder_dim=32", "--model.decoder_num_heads=2"),
        f"--data.num_workers={workers}",
        *("--optim.batch_size=16", "--optim.micro_batch_size=16", f"--run.log_every={BLOCK}"),
        *("--run.eval_every=null", "--run.checkpoint_every=null", "--run.tracker=none"),
        *("--run.progress=false", f"--run.output_dir={folder}"),
    ]
    return parse(config_parser(PretrainConfig, "mae_et", ""), PretrainConfig, options, "mae_et")[0]


def plain_step(config: PretrainConfig, trainer: Pretrainer, loop: Loop) -> Callable[[], None]:
    """A step as somebody would write it, on a model and images of its own."""
    accelerator = trainer.accelerator
    chunk = next(loop.chunks)
    images = trainer.crop(chunk["image"].to(accelerator.device), config.model.image_size)
    model: torch.nn.Module = build_model(config).to(accelerator.device)
    if accelerator.num_processes > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model(images, masked_only=True).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(loop: Loop) -> Callable[[], None]:
    """A step of the loop of a run, with all that it does after it."""
    steps = iter(range(loop.num_steps))

    def step() -> None:
        number = next(steps)
        loop.train_step(number)
        loop.log(number)
        loop.evaluate(number + 1)
        loop.save_or_leave(number + 1)
        loop.replan_if_needed(number + 1)

    return step


def microseconds(step: Callable[[], None]) -> dict[str, float]:
    """The time of a step, over a block of them."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(BLOCK):
        step()
    seconds = {"CPU": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return {clock: 1e6 * value / BLOCK for clock, value in seconds.items()}


def profiled(step: Callable[[], None]) -> str:
    """Where a block of steps spends its time, by function."""
    profile = cProfile.Profile()
    profile.runcall(microseconds, step)
    profile.create_stats()
    with tempfile.NamedTemporaryFile("w+") as file:
        pstats.Stats(profile, stream=file).sort_stats("cumulative").print_stats(60)
        file.seek(0)
        return file.read()


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=15, help="of each loop, after one to warm up")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="show where our steps spend time")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(f"{folder}/run", options.workers)
        accelerator = make_accelerator(config.run)
        (shared,) = broadcast_object_list([config.run.output_dir])  # the main process's
        config = replace(config, run=replace(config.run, output_dir=shared))
        model = build_model(config)
        images, curriculum = build_images(config, model, accelerator)
        trainer = Pretrainer(config, accelerator, model, curriculum)
        with RunFolder(config, images, False, accelerator) as run:
            loop = Loop(trainer, images, run)
            steps = {"plain": plain_step(config, trainer, loop), "ours": our_step(loop)}
            blocks: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
            for number in range(options.blocks + 1):
                for name, step in steps.items():
                    found = microseconds(step)
                    if number:
                        blocks[name].append(found)
            if options.profile and accelerator.is_main_process:
                print(profiled(steps["ours"]))
    medians = {
        name: {clock: statistics.median(one[clock] for one in found) for clock in ("CPU", "wall")}
        for name, found in blocks.items()
    }
    if not accelerator.is_main_process:
        return
    print(f"{'us a step':<12}{'CPU':>10}{'wall':>10}")
    for name, row in medians.items():
        print(f"{name:<12}{row['CPU']:>10.0f}{row['wall']:>10.0f}")
    more = {clock: medians["ours"][clock] - medians["plain"][clock] for clock in ("CPU", "wall")}
    print(f"{'difference':<12}{more['CPU']:>10.0f}{more['wall']:>10.0f}")
    if options.json:
        write_json(options.json, {**medians, "processes": accelerator.num_processes, **facts()})


if __name__ == "__main__":
    main()
