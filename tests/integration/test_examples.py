"""The examples of `docs/examples`, trained to the end on a few images of Fashion-MNIST."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from mae_et import Curriculum, MaskedAutoencoder, learning_rate
from tests.support.models import BuildMAE

CURRICULUM = Curriculum.efficienttrain_plus(full_size=28, patch_size=4, budget=20)
STEPS = range(CURRICULUM.num_steps)
SIZES = [CURRICULUM.stage_at(step).size for step in STEPS]
BATCH = 8


def learning_rates(warmup: float) -> list[float]:
    passed = map(CURRICULUM.lr_progress, STEPS)
    return [learning_rate(progress, peak=1e-3, warmup=warmup) for progress in passed]


class Flipped(Dataset[Tensor]):
    """Images that are flipped at random, so that an epoch draws numbers."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        return image.flip(-1) if torch.rand(()) < 0.5 else image


@pytest.fixture(scope="module")
def images(clothes: str) -> dict[str, Any]:
    """Normalised images (1, 28, 28) of each split."""
    tables = datasets.load_dataset("parquet", data_dir=clothes.partition(":")[2])
    return {
        split: [(functional.pil_to_tensor(row["image"]) / 255 - 0.286) / 0.353 for row in table]
        for split, table in tables.items()
    }


@pytest.fixture
def model(tiny_mae: BuildMAE) -> MaskedAutoencoder:
    return tiny_mae(image_size=28, in_chans=1)


Inputs = list[tuple[bool, int, int]]


def watch(model: MaskedAutoencoder) -> Inputs:
    """Return a list of the model's calls to come: training or not, input size, and images."""
    calls: Inputs = []

    def note(_: object, arguments: tuple[Tensor, ...]) -> None:
        calls.append((model.training, model.input_size[0], len(arguments[0])))

    model.encoder.norm_pre.register_forward_pre_hook(note)
    return calls


def assert_opens_in_timm(folder: Path, model: MaskedAutoencoder) -> None:
    encoder = timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    assert encoder.keys() == model.encoder.state_dict().keys()
    assert all(torch.equal(encoder[name], w) for name, w in model.encoder.state_dict().items())


# --- transformers


def run_trainer(
    model: MaskedAutoencoder, train: Any, held_out: Any, out: Path
) -> list[dict[str, Any]]:
    """Run the example, from the last checkpoint in `out` if there is one; return what it logged.

    An epoch has ten micro-batches, of which a step takes three or, at the end, the last one.
    """
    examples = pytest.importorskip("with_transformers")
    examples.pretrain(
        model,
        train,
        held_out,
        CURRICULUM,
        str(out),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=3,
        learning_rate=1e-3,
        warmup_steps=9,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=15,
        save_steps=6,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    state = json.loads((out / f"checkpoint-{len(STEPS)}" / "trainer_state.json").read_text())
    history: list[dict[str, Any]] = state["log_history"]
    return history


def test_the_trainer_follows_the_curriculum(
    model: MaskedAutoencoder, images: dict[str, Any], tmp_path: Path
) -> None:
    calls = watch(model)
    history = run_trainer(model, Flipped(images["train"]), images["test"], tmp_path)

    micro_batches = [3, 3, 3, 1] * len(STEPS)
    expected = [(size, BATCH) for step in STEPS for size in [SIZES[step]] * micro_batches[step]]
    assert [(size, count) for training, size, count in calls if training] == expected
    evaluated = [(size, count) for training, size, count in calls if not training]
    assert evaluated == [(28, 8), (28, 8), (28, 8), (28, 6)] * 3

    steps = [line for line in history if "loss" in line]
    assert [line["size"] for line in steps] == SIZES
    rates = [line["learning_rate"] for line in steps]
    assert rates == pytest.approx(learning_rates(9 / len(STEPS)), rel=1e-6)
    losses = [line["eval_loss"] for line in history if "eval_loss" in line]
    assert len(losses) == 3
    assert losses[-1] < 0.95 * losses[0]
    assert_opens_in_timm(tmp_path / "encoder", model)


@pytest.mark.parametrize(
    ("step", "is_augmented"),
    [(18, False), (24, True)],  # within an epoch and a stage; between epochs, within a stage
)
def test_a_resumed_trainer_ends_with_the_same_weights(
    tiny_mae: BuildMAE,
    model: MaskedAutoencoder,
    images: dict[str, Any],
    tmp_path: Path,
    step: int,
    is_augmented: bool,
) -> None:
    train = Flipped(images["train"]) if is_augmented else images["train"]
    history = run_trainer(model, train, images["test"], tmp_path)
    for folder in tmp_path.glob("checkpoint-*"):
        if int(folder.name.partition("-")[2]) > step:
            shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "encoder")
    resumed = tiny_mae(image_size=28, in_chans=1)
    calls = watch(resumed)
    again = run_trainer(resumed, train, images["test"], tmp_path)

    assert next(size for training, size, _ in calls if training) == SIZES[step]
    losses, losses_again = (
        [(line["step"], line["loss"]) for line in lines if "loss" in line]
        for lines in (history, again)
    )
    assert losses_again == losses
    weights = load_file(tmp_path / f"checkpoint-{len(STEPS)}" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
        assert torch.equal(weights[name], value)
    assert_opens_in_timm(tmp_path / "encoder", model)

    calls.clear()
    run_trainer(resumed, train, images["test"], tmp_path)  # which is over
    assert calls == []


def test_a_trainer_of_another_length_is_refused(model: MaskedAutoencoder, tmp_path: Path) -> None:
    examples = pytest.importorskip("with_transformers")
    arguments = examples.TrainingArguments(str(tmp_path), use_cpu=True, max_steps=44)
    with pytest.raises(ValueError, match=r"^max_steps must be curriculum.num_steps, 45, got 44$"):
        examples.CurriculumTrainer(CURRICULUM, model=model, args=arguments)


# --- Lightning


@pytest.mark.filterwarnings("ignore")  # Lightning warns of small runs, and uses what torch renames
def test_lightning_follows_the_curriculum(
    model: MaskedAutoencoder,
    tiny_mae: BuildMAE,
    images: dict[str, Any],
    tmp_path: Path,
) -> None:
    """And a run that goes on from its checkpoint has the size and the rate of its step."""
    pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger
    from with_lightning import pretrain

    def run(model: MaskedAutoencoder, out: Path, ckpt_path: str | None = None) -> pd.DataFrame:
        pretrain(
            model,
            DataLoader(Flipped(images["train"]), BATCH, shuffle=True),
            DataLoader(images["test"], BATCH),
            CURRICULUM,
            str(out),
            peak_lr=1e-3,
            ckpt_path=ckpt_path,
            accelerator="cpu",
            accumulate_grad_batches=3,
            log_every_n_steps=1,
            logger=CSVLogger(out),
            callbacks=[
                ModelCheckpoint(out, "{step}", every_n_epochs=3, save_top_k=-1),
                LearningRateMonitor("step"),
            ],
            enable_progress_bar=False,
        )
        return pd.read_csv(next(out.rglob("metrics.csv")))

    def rates(metrics: pd.DataFrame) -> list[float]:
        by_step: list[float] = metrics.groupby("step")["lr-AdamW"].first().tolist()
        return by_step

    calls = watch(model)
    metrics = run(model, tmp_path / "run")
    micro_batches = [3, 3, 3, 1] * len(STEPS)
    expected = [size for step in STEPS for size in [SIZES[step]] * micro_batches[step]]
    assert [size for training, size, _ in calls if training] == expected
    assert {size for training, size, _ in calls if not training} == {28}
    assert metrics["size"].dropna().tolist() == SIZES
    assert rates(metrics) == pytest.approx(learning_rates(0.1))
    losses = metrics["val_loss"].dropna().tolist()
    assert losses[-1] < 0.95 * losses[0]
    assert_opens_in_timm(tmp_path / "run" / "encoder", model)

    checkpoint = tmp_path / "run" / "step=24.ckpt"
    resumed = tiny_mae(image_size=28, in_chans=1)
    calls = watch(resumed)
    metrics = run(resumed, tmp_path / "resumed", str(checkpoint))
    assert metrics["size"].dropna().tolist() == SIZES[24:]
    assert rates(metrics) == pytest.approx(learning_rates(0.1)[24:])
    assert [size for training, size, _ in calls if training] == expected[60:]
