"""Channel statistics of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mae_et.__main__ import main
from tests.support.arguments import tiny
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Two images weigh the same, however many pixels they have."""
    Image.new("RGB", (10, 10), (255, 0, 51)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 30), (0, 0, 51)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"nothing")
    assert main(["stats", "--data.path", f"imagefolder:{tmp_path}"]) == 0
    mean, std = printed(capsys.readouterr().out)
    assert mean == pytest.approx([0.5, 0.0, 0.2], abs=1e-12)
    assert std == pytest.approx([0.5, 0.0, 0.0], abs=1e-12)
    assert f"1 of 3 images are unreadable, first: {tmp_path}/c.png" in caplog.text


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


def test_deep_grey_in_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same numbers in one channel and in three; 12 bits of 16 are said to be few."""
    grey = np.random.default_rng(0).random((16, 16))
    files: dict[str, Any] = {
        "float.tif": grey.astype(np.float32),
        "int.tif": np.round(grey * 70_000).astype(np.int32),
        "16.png": np.round(grey * 65535).astype(np.uint16),
        "12.png": np.round(grey * 4095).astype(np.uint16),
    }
    for name, pixels in files.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        Image.fromarray(pixels).save(folder / name)
        white = 65535 if pixels.dtype == np.uint16 else 1
        for in_chans in (1, 3):
            options = ["--data.path", f"imagefolder:{folder}", "--in_chans", str(in_chans)]
            assert main(["stats", *options]) == 0
            mean, std = printed(capsys.readouterr().out)
            assert mean == pytest.approx([pixels.mean() / white] * in_chans, rel=1e-4)
            assert std == pytest.approx([pixels.std() / white] * in_chans, rel=1e-4)


def test_little_of_the_scale_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for largest in (4095, 65535):
        pixels = np.linspace(0, largest, 256).reshape(16, 16).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        caplog.clear()
        assert main(["stats", "--data.path", f"imagefolder:{tmp_path}"]) == 0
        assert [m.partition(";")[0] for m in caplog.messages] == (
            ["values go from 0 to 0.06249, less than a tenth of their scale"]
            if largest == 4095
            else []
        )


def test_the_limit_of_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (20, 10), 51).save(tmp_path / "a.png")
    options = ["stats", "--data.path", f"imagefolder:{tmp_path}", "--in_chans=1"]
    assert main([*options, "--data.max_pixels=198"]) == 2
    assert "more than the 198 pixels that max_pixels allows" in capsys.readouterr().err
    assert main([*options, "--data.max_pixels=200"]) == 0
    assert printed(capsys.readouterr().out)[0] == [0.2]
    assert main([*options, "--data.max_pixels=0"]) == 2
    assert "--data.max_pixels must be above 0, got 0" in capsys.readouterr().err
    assert main(options) == 0  # which restores the default


def test_a_run_says_that_mean_and_deviation_do_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers without a scale, normalised as if they had one; what is learned does not change."""
    noise = np.random.default_rng(0).random((20, 16, 16))
    for name, largest, kind in (("12", 4095, "uint16"), ("int", 60_000, "int32")):
        folder = tmp_path / name
        folder.mkdir()
        for number, image in enumerate(noise):
            file = folder / f"{number}.tif"
            Image.fromarray(np.round(image * largest).astype(kind)).save(file)
        fit = {"12": (0.031, 0.018), "int": (30_000, 17_000)}[name]
        for run, statistics in {"unfit": (0.3, 0.35), "fit": fit}.items():
            caplog.clear()
            options: dict[str, object] = {"optim.epochs": 3}
            options |= {"data.mean": [statistics[0]], "data.std": [statistics[1]]}
            assert main(["pretrain", *tiny(f"imagefolder:{folder}", folder / run, **options)]) == 0
            found = [message for message in caplog.messages if "data.mean" in message]
            assert len(found) == (run == "unfit")
            assert all("python -m mae_et stats prints those that do" in line for line in found)
