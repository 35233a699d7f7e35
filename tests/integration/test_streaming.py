"""Runs on data sets that are read as streams, and on several data sets as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mae_et.__main__ import main
from tests.support.arguments import tiny
from tests.support.compare import assert_same_weights
from tests.support.launch import launch_two, run_two
from tests.support.own_images import FAILING_SHARD


@pytest.mark.parametrize("function", ["own_stream", "own_streams"])
def test_a_stream_of_ones_own_trains(tmp_path: Path, function: str) -> None:
    path = f"python:tests.support.own_images:{function}"
    options = {"data.num_images": 80, "data.num_workers": 1, "data.image_column": "picture"}
    assert main(["pretrain", *tiny(path, tmp_path / "run", **options)]) == 0
    assert (tmp_path / "run" / "encoder").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_two_processes_resume_a_stream_in_the_middle_of_an_epoch(
    shards: dict[str, str], kind: str, tmp_path: Path
) -> None:
    """2 processes × 2 workers, stopped after step 11 of 20 by the number of epochs it is given."""
    options = {
        "data.streaming": True,
        "data.num_workers": 2,
        "data.mean": [0.5] * 3,
        "data.std": [0.5] * 3,
        "model.in_chans": 3,
        "run.checkpoint_every": 11,
        "run.keep_checkpoints": 5,
    }
    arguments = tiny(shards[kind], tmp_path / "whole", **options)
    whole = run_two(["mae_et", "pretrain", *arguments])
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "whole").rename(tmp_path / "half")
    steps = sorted((tmp_path / "half" / "checkpoints").iterdir())
    assert steps[0].name == "step_00000011"
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    steps[0].rename(again / "checkpoints" / steps[0].name)
    (tmp_path / "half" / "config.yaml").rename(again / "config.yaml")
    resumed = run_two(
        ["mae_et", "pretrain", *tiny(shards[kind], again, **options), "--resume", "true"]
    )
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(tmp_path / "half", again)


@pytest.mark.slow
def test_what_only_the_second_process_finds_is_said(tmp_path: Path) -> None:
    path, options = "python:tests.support.own_images:failing_stream", {"data.num_images": 40}
    run = launch_two(["mae_et", "pretrain", *tiny(path, tmp_path / "run", **options)])
    assert run.returncode != 0
    said = f"error: shard {FAILING_SHARD} of data.path can't be read after row 16 (the server has"
    assert said in run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data.path": "imagefolder:tests", "data.streaming": True}, "data.streaming needs"),
        ({"data.path": "python:nowhere:f"}, "can't import module 'nowhere'"),
        ({"data.path": "python:tests.support.images:ROWS"}, "must be callable, got tuple"),
        (
            {"data.path": "python:tests.support.own_images:transformed"},
            "no function of set_transform",
        ),
        (
            {"data.path": "python:tests.support.own_images:failing"},
            "raised KeyError: 'no such table'",
        ),
        (
            {"data.path": "python:tests.support.own_images:featureless"},
            "give the data set its feature",
        ),
        (
            {"data.path": "python:tests.support.own_images:empty", "data.num_images": 9},
            "without any to",
        ),
        (
            {"data.path": "python:tests.support.own_images:own_stream"},
            "data.num_images must be given",
        ),
        (
            {"data.path": "null", "data.sources": "[{path: 'disk:/not/there'}]"},
            "data.sources.path must exist, got 'disk:/not/there'",
        ),
        (
            {"data.path": "null", "data.sources": "[{path: x}]", "data.image_column": "image"},
            "data.image_column must be null with data.sources",
        ),
        (
            {"data.path": "null", "data.sources": "[{path: x}]", "data.split": "all"},
            "data.split must be train with data.sources",
        ),
    ],
)
def test_bad_sources(
    options: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny("imagefolder:tests", tmp_path / "run", **options)
    assert main(["pretrain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_mixture_trains(clothes: str, image_folder: Path, tmp_path: Path) -> None:
    first, second = f"{{path: '{clothes}', weight: 1}}", f"path: 'imagefolder:{image_folder}'"
    sources = f"[{first}, {{{second}, weight: 2}}]"
    arguments = tiny("null", tmp_path / "run", **{"data.sources": sources})
    assert main(["pretrain", *arguments]) == 0
    out = tmp_path / "pictures.png"
    draw = ["reconstruct", "--checkpoint", str(tmp_path / "run"), "--out", str(out)]
    assert main(draw) == 0
    assert main([*draw, "--data.split=test"]) == 2
    export = ["--format", "timm", "--out", str(tmp_path / "timm")]
    assert main(["export", "--checkpoint", str(tmp_path / "run"), *export]) == 0
    card = (tmp_path / "timm" / "README.md").read_text()
    assert f"Data: `{clothes}`, `imagefolder:{image_folder}`" in card
