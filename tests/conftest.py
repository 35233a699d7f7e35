"""Small real images, and a run of a few seconds on them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from torch import Tensor

from mae_et.__main__ import main
from mae_et.runs import Run

ROOT = Path(__file__).parent.parent
FASHION_MNIST = ROOT / "scripts" / "data" / "fashion_mnist"

datasets.disable_progress_bars()


def launch_two(
    arguments: Sequence[str], distribution: Sequence[str] = ("--multi_gpu",)
) -> subprocess.CompletedProcess[str]:
    """Run a module in two CPU processes through accelerate's launcher.

    `--cpu` would start one process only; `--multi_gpu` is the distributed launcher, and the
    environment keeps its processes on the CPU.
    """
    launch = ("-m", "accelerate.commands.launch", *distribution, "--num_processes", "2")
    one_machine = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m")
    return subprocess_run([*launch, *one_machine, *arguments], ACCELERATE_USE_CPU="true")


def launch_machines(arguments: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run a module as two machines of one process each, which meet on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    meeting = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
    rest = ("--num_machines", "2", "--mixed_precision", "no", "--dynamo_backend", "no")

    def machine(rank: int) -> subprocess.CompletedProcess[str]:
        command = (*launch, *meeting, *rest, "--machine_rank", str(rank), "-m", *arguments)
        return subprocess_run(command, ACCELERATE_USE_CPU="true")

    with ThreadPoolExecutor() as machines:
        return list(machines.map(machine, range(2)))


def run_tasks(
    arguments: Sequence[str], **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run a module as two tasks without a launcher, told of each other as in slurm.sbatch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}

    def task(rank: int) -> subprocess.CompletedProcess[str]:
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
        return subprocess_run(["-m", *arguments], **world, **places, **environment)

    with ThreadPoolExecutor() as tasks:
        return list(tasks.map(task, range(2)))


def subprocess_run(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the root of the repository."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def reset_accelerate() -> None:
    """Accelerate keeps its device and precision in classes; what follows chooses anew."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()


@pytest.fixture(autouse=True)
def _fresh_accelerate_state() -> Iterator[None]:
    yield
    reset_accelerate()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device that accelerate chooses in a test, which is run once for each."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setenv("ACCELERATE_USE_CPU", str(request.param == "cpu"))
    return str(request.param)


@pytest.fixture(scope="session")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path for `data.path`: 80 training and 30 test images of Fashion-MNIST, balanced."""
    folder = tmp_path_factory.mktemp("clothes")
    for split, per_class in (("train", 8), ("test", 3)):
        table = datasets.Dataset.from_parquet(
            str(FASHION_MNIST / f"{split}.parquet"), cache_dir=str(folder / "cache")
        )
        labels = np.asarray(table["label"])
        rows = [row for c in range(10) for row in np.flatnonzero(labels == c)[:per_class]]
        table.select(rows).to_parquet(folder / "data" / f"{split}.parquet")
    return f"parquet:{folder / 'data'}"


def weights(run: Path) -> dict[str, Tensor]:
    """Those of the last checkpoint."""
    checkpoint = Run(run).latest_checkpoint()
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.fixture(scope="session")
def finished(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted tiny run."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert main(["pretrain", *tiny(clothes, run)]) == 0
    return run


@pytest.fixture(scope="session")
def image_folder(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training images as PNG files in class folders."""
    folder = tmp_path_factory.mktemp("folder")
    table = datasets.load_dataset("parquet", data_dir=clothes.partition(":")[2], split="train")
    for row, example in enumerate(table):
        class_folder = folder / f"class_{example['label']}"
        class_folder.mkdir(exist_ok=True)
        example["image"].save(class_folder / f"{row:03d}.png")
    return folder


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
