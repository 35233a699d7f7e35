"""Training steps of a wrapped model, in one call each: wrapped_steps.py WRAPPER OUT.

Each process has its half of the images; the first one writes the losses of both, step by step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from mae_et import MaskedAutoencoder
from tests.support.models import SMALL
from tests.support.tensors import seeded

SIZES = (32, 16, 16, 24, 32, 32, 16)


def make_model() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(
        encoder_args=SMALL,
        image_size=32,
        patch_size=8,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    )


def losses(model: nn.Module, half: slice = slice(None)) -> list[float]:
    """Train for a step at each of the sizes, and return the loss of each."""
    images, noise = seeded(4, 3, 32, 32), seeded(4, 16, uniform=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    measured = []
    for size in SIZES:
        mask_noise = noise[half, : (size // 8) ** 2]
        loss = model(images[half], mask_noise, size=size, masked_only=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        measured.append(loss.item())
    return measured


def main(wrapper: str, out: str) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    mae = make_model()
    model: nn.Module = mae
    if wrapper == "ddp":
        model = DistributedDataParallel(mae)
    else:
        dtype = torch.bfloat16 if wrapper == "fsdp_bf16" else None
        for module in (*mae.encoder.blocks, *mae.decoder_blocks, mae):
            fully_shard(module, mp_policy=MixedPrecisionPolicy(param_dtype=dtype))
    mine = torch.tensor(losses(model, slice(2 * rank, 2 * rank + 2)))
    distributed.all_reduce(mine)
    if rank == 0:
        Path(out).write_text(json.dumps((mine / 2).tolist()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
