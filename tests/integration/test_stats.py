"""Channel statistics of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_et.__main__ import main
from tests.support.images import damaged_folder
from tests.support.stats import printed


def test_statistics_of_images_of_one_size(
    clothes: str, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = [np.asarray(Image.open(file)) / 255 for file in sorted(image_folder.rglob("*.png"))]
    assert main(["stats", "--data.path", clothes, "--in_chans", "1"]) == 0
    mean, std = printed(capsys.readouterr().out)
    assert mean == pytest.approx([np.mean(pixels)], abs=1e-4)
    assert std == pytest.approx([np.std(pixels)], abs=1e-4)


def test_channels_images_of_two_sizes_and_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images weigh the same, however many pixels they have."""
    Image.new("RGB", (10, 10), (255, 0, 51)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 30), (0, 0, 51)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"nothing")
    assert main(["stats", "--data.path", f"imagefolder:{tmp_path}"]) == 0
    mean, std = printed(capsys.readouterr().out)
    assert mean == pytest.approx([0.5, 0.0, 0.2], abs=1e-12)
    assert std == pytest.approx([0.5, 0.0, 0.0], abs=1e-12)


def test_bad_input(image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged_folder(image_folder, tmp_path / "damaged", 80)
    cases = [
        (["--data.path", "here"], "'here' is no folder here, and no data set of the Hub: "),
        (["--data.path", f"imagefolder:{folder}"], "none is readable; first: "),
        (["--data.path", f"imagefolder:{folder}", "--data.split", "dev"], "data.split must be one"),
        (["--data.path", f"imagefolder:{folder}", "--in_chans", "0"], "--in_chans must be above 0"),
        (["--data.path", f"imagefolder:{folder}", "--num_images", "0"], "--num_images must be"),
    ]
    for arguments, expected in cases:
        assert main(["stats", *arguments]) == 2
        (line,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("error:")]
        assert expected in line
