"""Hiera through the commands: its stages, its encoder in other programs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch

from mae_et import load_mae_checkpoint
from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.weights import load_initial_weights
from tests.support.arguments import tiny, tiny_finetune
from tests.support.compare import assert_same_weights
from tests.support.interruptions import interrupt_at

ENCODER = {
    "model__encoder": "hiera_tiny_224",
    "model__encoder_args": "{embed_dim: 8, stages: [1, 2, 1], q_pool: 2, mask_unit_size: [4, 4], "
    "mask_unit_attn: [true, false, false], patch_stride: [1, 1], patch_kernel: [3, 3], "
    "patch_padding: [1, 1]}",
    "model__patch_size": "null",
}
"""Mask units of 4 pixels, of 2 × 2 patches."""

HIERA = {
    **ENCODER,
    "model__method": "hiera",
    "model__mask_ratio": 0.6,
    "model__positions": "learned",
    "optim__micro_batch_size": 16,
}


@pytest.fixture(scope="module")
def trained(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("hiera") / "run"
    probed = {"eval__knn_every": 20, "eval__images": 40}
    assert main(["pretrain", *tiny(clothes, run, **HIERA, **probed)]) == 0
    return run


def test_a_run_goes_through_its_stages(trained: Path) -> None:
    lines = Run(trained).read_metrics()
    assert [line["size"] for line in lines if "loss" in line] == [8] * 10 + [12] * 5 + [16] * 5
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < losses[0]
    assert [line["step"] for line in lines if "knn_top1" in line] == [20]


def test_a_resumed_run_is_the_same(
    clothes: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    interrupt_at(monkeypatch, 14)
    assert main(["pretrain", *tiny(clothes, run, **HIERA)]) != 0
    monkeypatch.undo()
    assert main(["pretrain", *tiny(clothes, run, **HIERA), "--resume"]) == 0
    assert_same_weights(run, trained)


def test_the_encoder_elsewhere(clothes: str, trained: Path, tmp_path: Path) -> None:
    """In timm, as maps for dense models, as features, and in fine-tuning."""
    name, images = f"local-dir:{trained / 'encoder'}", torch.randn(2, 1, 16, 16)
    encoder = timm.create_model(name, pretrained=True).eval()
    model = load_mae_checkpoint(trained).eval()
    torch.testing.assert_close(encoder(images), model.features(images))
    maps = timm.create_model(name, pretrained=True, features_only=True, out_indices=3)(images)
    assert [tuple(one.shape) for one in maps] == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)]

    out = tmp_path / "transformers"
    arguments = [f"--checkpoint={trained}", "--format=transformers", f"--out={out}"]
    assert main(["export", *arguments]) == 0
    theirs = pytest.importorskip("transformers").AutoModel.from_pretrained(out)
    torch.testing.assert_close(theirs(images).pooler_output, encoder(images))
    assert "AutoModel.from_pretrained" in (out / "README.md").read_text()

    for weights, has_decoder in ((trained, True), (trained / "encoder", False)):
        assert load_initial_weights(load_mae_checkpoint(trained), weights) == has_decoder

    out = tmp_path / "features.parquet"
    arguments = [f"--checkpoint={trained}", f"--data.path={clothes}", f"--out={out}"]
    assert main(["embed", *arguments, "--data.split=test", "--data.num_workers=0"]) == 0
    vectors = np.stack(pq.read_table(out)["vector"].to_numpy(zero_copy_only=False))
    assert vectors.shape == (30, 32)


def test_fine_tuning_at_another_size(clothes: str, trained: Path, tmp_path: Path) -> None:
    from finetune.__main__ import main as finetune

    options = {**ENCODER, "model__image_size": 24, "checkpoint": trained}
    options |= {"optim__epochs": 1, "optim__warmup_epochs": 0.5}
    assert finetune(tiny_finetune(clothes, tmp_path / "run", **options)) == 0
    assert finetune([*tiny_finetune(clothes, tmp_path / "knn", **options), "--mode=knn"]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"curriculum__stages": "[{size: 10}, {size: 16}]"},
            "got 10; nearest: 8 or 12",
        ),
        ({"model__patch_size": 4}, "model.patch_size must be null with model.method"),
        ({"model__mask_ratio": 0.99}, "leaves no visible block of 2 x 2 patches of"),
        ({"checkpoint": "mae"}, "must be of model.method hiera, got an encoder vit_"),
    ],
)
def test_bad_input(
    clothes: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    message: str,
) -> None:
    changes |= {"checkpoint": finished} if "checkpoint" in changes else {}
    assert main(["pretrain", *tiny(clothes, tmp_path / "run", **HIERA | changes)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
