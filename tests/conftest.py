"""Small real images, a run of a few seconds on them, tiny models, and two tiers of tests."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import numpy as np
import pytest
import torch

from mae_et import MaskedAutoencoder
from mae_et.__main__ import main
from mae_et.data import scratch
from mae_et.errors import forget_said
from tests.support.accelerate_state import reset_accelerate, reset_launch_variables
from tests.support.arguments import tiny
from tests.support.images import ROWS, numbered_png
from tests.support.models import BuildMAE
from tests.support.paths import FASHION_MNIST, TESTS
from tests.support.run_folders import finetuning, lines, pretraining

datasets.disable_progress_bars()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark each test by its tier, the folder of `tests` that it is in."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])


@pytest.fixture(scope="session", autouse=True)
def _no_scratch_files_stay() -> Iterator[None]:
    """pytest-xdist kills its processes a second after their last test, before they clean up."""
    yield
    if scratch._folder.cache_info().currsize:
        shutil.rmtree(scratch._folder())


@pytest.fixture(autouse=True)
def _fresh_accelerate_state() -> Iterator[None]:
    """As in a new process: before a test as well, since `finished` and others may just have run."""
    reset_accelerate()
    reset_launch_variables()
    forget_said()
    yield
    reset_accelerate()
    reset_launch_variables()


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


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same 144 images as WebDataset, as Parquet, and as tar files that can't be counted."""
    folder = tmp_path_factory.mktemp("shards")
    for kind in ("webdataset", "parquet", "compressed"):
        (folder / kind).mkdir()
    number = 0
    for shard, rows in enumerate(ROWS):
        images = {f"{n:04d}": numbered_png(n) for n in range(number, number + rows)}
        number += rows
        for name in (f"webdataset/{shard}.tar", f"compressed/{shard}.tar.gz"):
            with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
                for key, content in images.items():
                    for suffix, member in (("png", content), ("json", b"{}")):
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size = len(member)
                        tar.addfile(info, io.BytesIO(member))
        table = datasets.Dataset.from_dict(
            {"image": [{"bytes": b, "path": f"{key}.png"} for key, b in images.items()]},
            features=datasets.Features({"image": datasets.Image()}),
        )
        table.to_parquet(folder / "parquet" / f"{shard}.parquet", batch_size=10)
    return {
        "webdataset": f"webdataset:{folder}/webdataset",
        "parquet": f"parquet:{folder}/parquet",
        "compressed": f"webdataset:{folder}/compressed",
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms of two seeds, and one from scratch, fine-tuned; a probe."""
    top1 = {"long": (0.8, 0.84), "short": (0.7, 0.75), "none": (0.5, 0.6)}
    for seed in range(2):
        for name, epochs in (("long", 4), ("short", 2)):
            steps = 5 * epochs
            windows = (steps // 2, 8, 8 * steps, 3.0 + seed), (steps, 16, 8 * steps, 5.0)
            metrics = lines(*windows, eval_loss=0.5 + seed / 10)
            run = pretraining(tmp_path / f"{name}_{seed}", seed, metrics, epochs=epochs)
            folder = tmp_path / f"tuned_{name}_{seed}"
            finetuning(folder, seed, run / "encoder", top1[name][seed])
        finetuning(tmp_path / f"scratch_{seed}", seed, "none", top1["none"][seed], layer_decay=1)
    probe = {"mode": "knn", "checkpoint": str(tmp_path / "long_1" / "encoder"), "k": 20}
    (tmp_path / "probe").mkdir()
    probe |= {"train_images": 80, "test_images": 30, "top1": 0.66}
    (tmp_path / "probe" / "knn.json").write_text(json.dumps(probe))
    return tmp_path


@pytest.fixture(scope="session")
def tiny_mae() -> BuildMAE:
    """A factory of masked autoencoders for 16 × 16 pixels, with weights drawn from seed 0."""

    def build(encoder: str = "vit_tiny_patch16_224", **changes: Any) -> MaskedAutoencoder:
        arguments: dict[str, Any] = {
            "encoder_args": {"embed_dim": 16, "depth": 1, "num_heads": 2},
            "image_size": 16,
            "patch_size": 4,
            "decoder_dim": 16,
            "decoder_depth": 1,
            "decoder_num_heads": 2,
        }
        torch.manual_seed(0)
        return MaskedAutoencoder(encoder, **arguments | changes)

    return build
