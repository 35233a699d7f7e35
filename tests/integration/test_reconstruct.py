"""Pictures of reconstructions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mae_et.__main__ import main
from tests.support.arguments import tiny


@pytest.mark.parametrize("checkpoint", ["run", "step"])
def test_command_draws_a_run(clothes: str, tmp_path: Path, checkpoint: str) -> None:
    run, picture = tmp_path / "run", tmp_path / "pictures" / "out.png"
    assert main(["pretrain", *tiny(clothes, run, optim__epochs=2)]) == 0
    path = run if checkpoint == "run" else next(run.glob("checkpoints/step_*"))
    arguments = [f"--checkpoint={path}", f"--out={picture}", "--num_images=3"]
    assert main(["reconstruct", *arguments]) == 0
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape[0] > 500
    assert len(np.unique(pixels)) > 100


@pytest.fixture(scope="module")
def short(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("short") / "run"
    assert main(["pretrain", *tiny(clothes, run, optim__epochs=2)]) == 0
    return run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder", 5),
        ("encoder_args", [3]),
        ("encoder_args", {"embed_dim": 10**9}),
        ("image_size", []),
        ("patch_size", {}),
        ("decoder_dim", -1),
        ("decoder_dim", 0),
        ("decoder_dim", 10**6),
        ("decoder_depth", "x"),
        ("in_chans", 10**9),
        ("mask_ratio", "x"),
        ("target", [[]]),
    ],
)
@pytest.mark.parametrize("command", ["reconstruct", "pretrain"])
def test_a_model_that_a_stranger_describes(
    short: Path,
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: object,
    command: str,
) -> None:
    """One line, and no more memory than the weights in the checkpoint take."""
    run = tmp_path / "run"
    shutil.copytree(short, run)
    shutil.rmtree(run / "encoder")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = [f"--checkpoint={run}"]
    if command == "pretrain":
        arguments += tiny(clothes, tmp_path / "next")
    code = main([command, *arguments])
    if command == "pretrain" and name in ("decoder_dim", "in_chans") and value not in (-1, 0):
        assert code == 0  # it starts from the tensors, whose sizes are their own
        return
    assert code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: checkpoint ")
    assert "is of another architecture" in message
