"""Pictures of reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
