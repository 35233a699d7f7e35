"""Command lines of which a part of the settings is to be chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mae_et.config import PretrainConfig
from mae_et.config.parser import add_resume, config_parser
from mae_et.config.request import Request, add_automatic, default_folder, options_of


def request(*arguments: str) -> Request[PretrainConfig]:
    parser = config_parser(PretrainConfig, "pretrain", "")
    add_resume(parser)
    add_automatic(parser)
    return Request(parser, PretrainConfig, arguments, "mae_et")


def test_what_is_given_is_told_from_defaults() -> None:
    found = request("photos", "--hours", "2", "--out=r", "--data.mean", "[0.1]", "--resume")
    assert found.names_images
    assert found.recipe is None
    assert found.given == {
        "data.path": "photos",
        "run.hours": 2.0,
        "run.output_dir": "r",
        "data.mean": (0.1,),
    }
    assert found.options.resume is True
    assert request().given == {}


def test_what_is_given_goes_before_what_is_chosen() -> None:
    found = request("photos", "--model.in_chans", "1", "--model.encoder_args", "{depth: 3}")
    config = found.make(
        {
            "model.in_chans": 3,
            "data.mean": (0.25,),
            "data.std": [0.5],
            "model.encoder_args": {"depth": 9, "embed_dim": 96},
            "optim.micro_batch_size": None,
            "run.eval_every": 7,
        }
    )
    assert config.model.in_chans == 1
    assert config.model.encoder_args == {"depth": 3}
    assert (config.data.path, config.data.mean, config.data.std) == ("photos", (0.25,), (0.5,))
    assert (config.optim.micro_batch_size, config.run.eval_every) == (None, 7)


def test_what_is_chosen_goes_before_a_recipe() -> None:
    found = request("--config", "mae_vit_b_16", "--optim.batch_size=64", "--hours=1")
    assert found.recipe is not None
    config = found.make({"optim.epochs": 3.5, "optim.warmup_epochs": 1, "optim.batch_size": 8})
    assert (config.optim.epochs, config.optim.batch_size, config.model.patch_size) == (
        3.5,
        64,
        None,
    )


def test_images_and_a_folder_go_before_those_of_a_recipe() -> None:
    config = request("photos", "--config", "demo", "--out", "r").make({})
    assert (config.data.path, config.run.output_dir) == ("photos", "r")


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/x/photos.2024", "runs/photos_2024"),
        ("parquet:/x/train/*.parquet", "runs/train"),
        ("/x/a.tar.gz", "runs/a"),
        ("hub:owner/name", "runs/name"),
        ("/", "runs/images"),
    ],
)
def test_the_folder_of_a_run_has_the_name_of_its_images(path: str, folder: str) -> None:
    assert default_folder(path) == folder


def test_numbers_of_numpy_are_numbers() -> None:
    settings = {"optim": {"base_lr": np.float32(0.5)}, "data": {"std": np.array([0.5, 1, 2])}}
    config = request(*options_of(settings)).make({})
    assert (config.optim.base_lr, config.data.std) == (0.5, (0.5, 1.0, 2.0))


def test_a_run_that_goes_on_keeps_its_settings(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "optim: {epochs: 9, warmup_epochs: 1}\nimages: {train: 3}"
    )
    found = request("photos", "--run.seed", "4")
    found.begin_with(tmp_path / "config.yaml")
    found.give("run.output_dir", "r")
    found.give("data.path", "others")
    config = found.make({})
    assert (config.optim.epochs, config.run.seed, config.run.output_dir) == (9, 4, "r")
    assert config.data.path == "photos"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photos", "--data.path", "b"), "--data.path must be left out with DATA, got 'b'"),
        (("--out", "r", "--run.output_dir", "s"), "--run.output_dir must be left out with --out"),
        (("--hours", "1", "--run.hours", "2"), "--run.hours must be left out with --hours"),
        (("--hours", "soon"), "hours must be a number or null .hours the run may"),
        (("photos", "more"), "unknown option more|[Uu]nrecognized arguments: more"),
        (("--hours", "-1", "photos"), "--hours must be above 0, got -1"),
    ],
)
def test_bad_lines(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        request(*arguments).make({})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"optim": {"epochs": 3, "betas": (0.9, 0.95)}}, ["epochs=3", "betas=[0.9, 0.95]"]),
        ({"optim.epochs": 2.5, "optim.clip_grad": None}, ["epochs=2.5", "clip_grad=null"]),
    ],
)
def test_settings_as_options(settings: dict[str, Any], options: list[str]) -> None:
    assert options_of(settings) == [f"--optim.{option}" for option in options]
    config = request(*options_of(settings | {"optim.warmup_epochs": 0})).make({})
    assert config.optim.epochs in (3, 2.5)


def test_sections_may_hold_texts_paths_and_arguments(tmp_path: Path) -> None:
    settings = {
        "data": {"path": tmp_path, "flip": False},
        "model": {"encoder_args": {"depth": 3}},
        "curriculum": {"name": "stages", "stages": [{"size": 224, "share": 1.0}]},
    }
    config = request(*options_of(settings)).make({})
    assert config.data.path == str(tmp_path)
    assert config.data.flip is False
    assert config.model.encoder_args == {"depth": 3}
    assert config.curriculum.stages[0].size == 224
