"""SimMIM through the commands: stages, resumption, hand-off, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch

from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.weights import load_masked
from tests.support.arguments import tiny, tiny_finetune
from tests.support.compare import assert_same_weights
from tests.support.interruptions import interrupt_at

SWIN = {
    "model__encoder": "swin_tiny_patch4_window7_224",
    "model__encoder_args": "{patch_size: 2, window_size: 2, embed_dim: 8, depths: [2, 1], "
    "num_heads: [1, 2]}",
    "model__patch_size": "null",
}
RESNET = {
    "model__encoder": "resnet10t",
    "model__encoder_args": "{channels: [8, 8, 16, 16], output_stride: 8}",
    "model__patch_size": "null",
}
NETWORKS = {"swin": SWIN, "resnet": RESNET}
"""One that runs on twins, and one with batch norms."""


def simmim(path: str, run: Path, **fields: object) -> list[str]:
    """Arguments of 20 steps of 16 images through sizes 8 and 16."""
    own: dict[str, object] = {
        "model__method": "simmim",
        "model__mask_unit": 4,
        "model__mask_ratio": 0.6,
        "model__target": "pixel",
        "curriculum__stages": "[{size: 8}, {size: 16}]",
        "optim__base_lr": 0.1,
        "optim__micro_batch_size": 16,
    }
    arguments = tiny(path, run, **{**own, **fields})
    return [argument for argument in arguments if "decoder" not in argument]


@pytest.fixture(scope="module", params=NETWORKS)
def trained(
    request: pytest.FixtureRequest, clothes: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], Path]:
    run, network = tmp_path_factory.mktemp("simmim") / "run", NETWORKS[request.param]
    probed = {"eval__knn_every": 20, "eval__images": 40}
    assert main(["pretrain", *simmim(clothes, run, **network, **probed)]) == 0
    return dict(network), run


def test_a_run_goes_through_its_stages_and_its_encoder_is_handed_on(
    clothes: str,
    trained: tuple[dict[str, object], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, run = trained
    lines = Run(run).read_metrics()
    assert [line["size"] for line in lines if "loss" in line] == [8] * 10 + [16] * 10
    assert [line["step"] for line in lines if "knn_top1" in line] == [20]

    # In timm, batch-norm statistics included.
    images = torch.randn(2, 1, 16, 16)
    encoder = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True).eval()
    model = load_masked(run).eval()
    with torch.no_grad():
        features = encoder.forward_head(encoder.forward_features(images), pre_logits=True)
        torch.testing.assert_close(features, model.features(images), rtol=0, atol=0)

    # In fine-tuning, before its first step.
    tuned, fields = tmp_path / "tuned", {**network, "checkpoint": str(run)}
    fields |= {"optim__base_lr": 1e-30, "optim__min_lr": 0, "optim__layer_decay": 1.0}
    from finetune.__main__ import main as finetune

    assert finetune([*tiny_finetune(clothes, tuned, **fields)]) == 0
    found = timm.create_model(f"local-dir:{tuned / 'last'}", pretrained=True).state_dict()
    for name, value in encoder.named_parameters():
        assert torch.equal(found[name], value), name

    # In transformers, if that has the network.
    command = ["export", f"--checkpoint={run}", "--format=transformers"]
    if network["model__encoder"] == SWIN["model__encoder"]:
        auto = pytest.importorskip("transformers").AutoModel
        assert main([*command, f"--out={tmp_path / 'exported'}"]) == 0
        theirs = auto.from_pretrained(tmp_path / "exported")(images).pooler_output
        torch.testing.assert_close(theirs, features, rtol=0, atol=1e-5)
    else:
        assert main([*command, f"--out={tmp_path / 'exported'}"]) == 2
        message = "transformers' ResNet can't express a stem of several convolutions"
        assert message in capsys.readouterr().err

    # As features of images.
    out = tmp_path / "features.parquet"
    arguments = [f"--checkpoint={run}", f"--data.path={clothes}", f"--out={out}"]
    assert main(["embed", *arguments, "--data.split=test", "--data.num_workers=0"]) == 0
    vectors = np.stack(pq.read_table(out)["vector"].to_numpy(zero_copy_only=False))
    assert vectors.shape == (30, features.shape[1])


def test_a_resumed_run_is_the_same(
    clothes: str,
    trained: tuple[dict[str, object], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, whole = trained
    run = tmp_path / "run"
    interrupt_at(monkeypatch, 14)
    assert main(["pretrain", *simmim(clothes, run, **network)]) != 0
    monkeypatch.undo()
    assert main(["pretrain", *simmim(clothes, run, **network), "--resume"]) == 0
    assert_same_weights(run, whole)


def test_what_a_run_refuses(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    vit = {"optim__epochs": 1, "optim__warmup_epochs": 0}
    assert main(["pretrain", *tiny(clothes, run, **vit)]) == 0
    for arguments, message in (
        ([f"--checkpoint={run}"], "must be of model.method simmim, got an encoder"),
        (["--model.decoder_dim=64"], "model.decoder_dim must be left out (512)"),
        (["--model.mask_unit=32"], "model.mask_unit must be at most the image size 16"),
        (["--curriculum.stages=[{size: 10}, {size: 16}]"], "8"),
    ):
        command = [*simmim(clothes, tmp_path / "other", **SWIN), *arguments]
        assert main(["pretrain", *command]) == 2
        assert message in capsys.readouterr().err


def test_a_picture(trained: tuple[dict[str, object], Path], tmp_path: Path) -> None:
    _, run = trained
    picture = tmp_path / "out.png"
    command = ["reconstruct", f"--checkpoint={run}", f"--out={picture}", "--num_images=2"]
    assert main(command) == 0
    assert picture.exists()
