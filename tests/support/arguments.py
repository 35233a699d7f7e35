"""Command lines of tiny runs, which take seconds."""

from __future__ import annotations

from pathlib import Path


def tiny(path: str, output_dir: Path | str, **overrides: object) -> list[str]:
    """Arguments of a tiny pretraining run: 20 steps of 16 images through sizes 8, 12 and 16."""
    options = {
        "model.encoder": "vit_tiny_patch16_224",
        "model.encoder_args": "{embed_dim: 16, depth: 1, num_heads: 2}",
        "model.image_size": 16,
        "model.patch_size": 4,
        "model.in_chans": 1,
        "model.decoder_dim": 16,
        "model.decoder_depth": 1,
        "model.decoder_num_heads": 2,
        "curriculum.name": "stages",
        "curriculum.stages": "[{size: 8, share: 2}, {size: 12}, {size: 16}]",
        "data.path": path,
        "data.mean": "[0.3]",
        "data.std": "[0.35]",
        "data.eval_images": 20,
        "data.num_workers": 0,
        "optim.epochs": 4,
        "optim.batch_size": 16,
        "optim.micro_batch_size": 4,
        "optim.base_lr": 0.01,
        "optim.warmup_epochs": 1,
        "run.output_dir": output_dir,
        "run.log_every": 1,
        "run.eval_every": 10,
        "run.checkpoint_every": 3,
        "run.tracker": "none",
        "run.progress": "false",
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return [f"--{name}={value}" for name, value in options.items()]


def tiny_finetune(path: str, output_dir: Path | str, **overrides: object) -> list[str]:
    """Arguments of a tiny fine-tuning run: 10 steps of 16 images."""
    options = {
        "checkpoint": "none",
        "model.encoder": "vit_tiny_patch16_224",
        "model.encoder_args": "{embed_dim: 16, depth: 1, num_heads: 2}",
        "model.image_size": 16,
        "model.patch_size": 4,
        "model.in_chans": 1,
        "data.path": path,
        "data.mean": "[0.3]",
        "data.std": "[0.35]",
        "data.num_workers": 0,
        "optim.epochs": 2,
        "optim.batch_size": 16,
        "optim.micro_batch_size": 8,
        "optim.warmup_epochs": 1,
        "run.output_dir": output_dir,
        "run.log_every": 1,
        "run.checkpoint_every": 3,
        "run.tracker": "none",
        "run.progress": "false",
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return [f"--{name}={value}" for name, value in options.items()]
