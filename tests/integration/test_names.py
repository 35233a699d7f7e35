"""Whole commands with a checkpoint that is given by name, from a cache made by hand."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.weights.licence import find_source
from tests.support.arguments import tiny, tiny_finetune
from tests.support.hub import folder_files, put_in_cache
from tests.support.models import randomized

TAG = "timm:test_vit.r160_in1k"

LIKE_TAG = {
    "model.encoder": "test_vit",
    "model.encoder_args": "{}",
    "model.image_size": 64,
    "model.patch_size": 16,
    "model.in_chans": 3,
    "data.mean": "[0.5, 0.5, 0.5]",
    "data.std": "[0.5, 0.5, 0.5]",
    "optim.epochs": 1,
    "optim.warmup_epochs": 0,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tagged(cache: Path) -> Any:
    """The model of a tag of timm, whose weights are in the cache."""
    model = randomized(timm.create_model("test_vit"))
    put_in_cache(cache, "timm/test_vit.r160_in1k", {"model.safetensors": save(model.state_dict())})
    return model


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def export(checkpoint: object, out: Path, *further: str, library: str = "timm") -> int:
    return main(
        ["export", f"--checkpoint={checkpoint}", f"--format={library}", f"--out={out}", *further]
    )


def test_pretraining_from_timm(
    tagged: Any, cache: Path, clothes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path / "run")
    stages = {"curriculum.stages": "[{size: 32}, {size: 64}]", "optim.base_lr": 1e-12}
    options = {**LIKE_TAG, **stages, "checkpoint": TAG, "data.std": "[0.3, 0.3, 0.3]"}
    assert main(["pretrain", *tiny(clothes, run.folder, **options)]) == 0
    assert run.read_config()["checkpoint"] == TAG
    weights = load_file(run.encoder / "model.safetensors")  # at a rate that changes next to nothing
    torch.testing.assert_close(weights["blocks.0.mlp.fc1.weight"], tagged.blocks[0].mlp.fc1.weight)
    assert f"{TAG} was trained on images normalised by mean [0.5, 0.5, 0.5]" in caplog.text
    assert f"{TAG} has no decoder" in caplog.text
    shutil.rmtree(cache)  # a run that goes on has weights of its own
    shutil.rmtree(run.encoder)
    assert main(["pretrain", *tiny(clothes, run.folder, **options), "--resume"]) == 0
    assert run.encoder.is_dir()
    config = json.loads((run.encoder / "config.json").read_text())
    assert "license" not in config["pretrained_cfg"]


def test_fine_tuning_and_probes_of_an_export(
    finished: Path, cache: Path, clothes: str, tmp_path: Path
) -> None:
    assert export(finished, tmp_path / "out", "--license=cc-by-nc-4.0") == 0
    put_in_cache(cache, "me/clothes", folder_files(tmp_path / "out"))
    name, run = "hub:me/clothes", Run(tmp_path / "run")
    by_name = tiny_finetune(clothes, run.folder, checkpoint=name)
    assert finetune_main([*by_name, "--augment.randaug=null"]) == 0
    by_path = tiny_finetune(clothes, tmp_path / "other", checkpoint=finished / "encoder")
    assert finetune_main([*by_path, "--augment.randaug=null"]) == 0
    ours, theirs = (
        load_file(folder / "last/model.safetensors") for folder in (run.folder, tmp_path / "other")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for mode in ("knn", "linear"):
        probe = tiny_finetune(clothes, tmp_path / "probe", checkpoint=name, mode=mode)
        assert finetune_main([*probe, "--augment.randaug=null"]) == 0
        scores = json.loads((tmp_path / "probe" / f"{mode}.json").read_text())
        assert scores["checkpoint"] == name
    shutil.move(cache, tmp_path / "aside")
    assert finetune_main([*by_name, "--augment.randaug=null", "--resume"]) == 0
    shutil.move(tmp_path / "aside", cache)

    assert export(run.folder, tmp_path / "classifier") == 0
    front, text = read_card(tmp_path / "classifier")
    assert "license" not in front
    assert front["base_model"] == "me/clothes"
    assert "None is stated. The weights started from those of `hub:me/clothes`, which are" in text
    assert "under cc-by-nc-4.0" in text


def test_no_network_is_one_line_before_the_data_are_read(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("finetune", "knn"):
        arguments = tiny_finetune(
            "disk:/not/there", tmp_path / "run", checkpoint="hub:a/b", mode=mode
        )
        assert finetune_main([*arguments, "--augment.randaug=null"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: checkpoint hub:a/b is not in the cache")
        assert "type hf download a/b README.md config.json model.safetensors pre" in line
    options = tiny("disk:/not/there", tmp_path / "run", checkpoint="hub:a/b")
    commands = [
        ["pretrain", *options],
        ["reconstruct", "--checkpoint=hub:a/b", "--data.path=disk:/not/there"],
        ["export", "--checkpoint=hub:a/b", "--format=timm", f"--out={tmp_path / 'out'}"],
    ]
    for command in commands:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: checkpoint hub:a/b is not in the cache")


def test_predictions_with_the_classes_of_imagenet(
    tagged: Any, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", f"--data={image_folder}", "--num_workers=0"]
    out = tmp_path / "out.csv"
    assert finetune_main([*command, f"--checkpoint={TAG}", f"--out={out}"]) == 0
    with out.open() as file:
        header, *rows = csv.reader(file)
    assert header[3:5] == ["n01440764", "n01443537"]
    assert len(rows) == 80
    assert finetune_main([*command, "--checkpoint=hub:a/b"]) == 2
    assert "\nerror: checkpoint hub:a/b is not in the cache" in capsys.readouterr().err
    assert finetune_main([*command, "--checkpoint=timm:vit_base_patch16_224.mea"]) == 2
    assert "nearest: timm:vit_base_patch16_224.mae" in capsys.readouterr().err


# --- licences


@pytest.mark.parametrize("library", ["timm", "onnx"])
def test_weights_that_are_exported_as_they_are(
    tagged: Any, tmp_path: Path, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert export(TAG, tmp_path / "out", library=library) == 0
    front, text = read_card(tmp_path / "out")
    assert front["license"] == "apache-2.0"  # of timm's list
    assert f"apache-2.0. The weights are those of `{TAG}`, which are under apache-2.0" in text
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "apache-2.0"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    if library == "timm":
        opened = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
        assert torch.equal(opened.norm.bias, tagged.norm.bias)
    assert export(TAG, tmp_path / "other", "--license=mit") == 0
    assert read_card(tmp_path / "other")[0]["license"] == "mit"
    assert f"are those of {TAG}, which is under apache-2.0 here" in caplog.text


def test_a_vit_mae_from_the_hub(finished: Path, cache: Path, clothes: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert export(finished, tmp_path / "mae", "--license=cc-by-nc-4.0", library="transformers") == 0
    put_in_cache(cache, "me/mae", folder_files(tmp_path / "mae"))
    assert export("hub:me/mae", tmp_path / "timm") == 0
    assert read_card(tmp_path / "timm")[0]["license"] == "cc-by-nc-4.0"
    ours = load_file(finished / "encoder" / "model.safetensors")
    theirs = load_file(tmp_path / "timm" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [0.3]
    picture = tmp_path / "picture.png"
    command = ["reconstruct", "--checkpoint=hub:me/mae", f"--data.path={clothes}"]
    assert main([*command, f"--out={picture}", "--num_images=2"]) == 0
    assert picture.stat().st_size > 1000


def test_an_export_claims_no_licence_by_itself(finished: Path, tmp_path: Path) -> None:
    assert export(finished, tmp_path / "plain") == 0
    front, text = read_card(tmp_path / "plain")
    assert "license" not in front
    assert "base_model" not in front
    assert "## Licence\n\nNone is stated.\n" in text
    old = shutil.copytree(finished, tmp_path / "old")  # version 0.2 wrote timm's licence
    file = old / "encoder" / "config.json"
    config = json.loads(file.read_text())
    config["pretrained_cfg"]["license"] = "apache-2.0"
    file.write_text(json.dumps(config))
    for name, checkpoint in (("a", old), ("b", shutil.copytree(old / "encoder", tmp_path / "c"))):
        assert export(checkpoint, tmp_path / name) == 0
        assert "license" not in read_card(tmp_path / name)[0]
        written = json.loads((tmp_path / name / "config.json").read_text())
        assert "license" not in written["pretrained_cfg"]
    assert export(finished, tmp_path / "chosen", "--license=mit") == 0
    assert read_card(tmp_path / "chosen")[0]["license"] == "mit"
    again = json.loads((tmp_path / "chosen" / "config.json").read_text())
    assert again["pretrained_cfg"]["license"] == "mit"
    assert export(tmp_path / "chosen", tmp_path / "again") == 0  # its owner has chosen
    assert read_card(tmp_path / "again")[0]["license"] == "mit"


def test_the_source_is_found_over_several_runs(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before: str | Path = "timm:vit_base_patch16_224.mae"
    for number in range(3):
        run = Run(tmp_path / f"run_{number}")
        run.folder.mkdir()
        run.write_config({"checkpoint": str(before)})
        before = run.folder
    found = find_source(str(before))
    assert found == (
        "timm:vit_base_patch16_224.mae",
        "timm/vit_base_patch16_224.mae",
        "cc-by-nc-4.0",
    )
    Run(tmp_path / "run_0").write_config({"checkpoint": "hub:a/b@v1"})
    assert find_source(before) == ("hub:a/b@v1", "a/b", None)
    card = "---\nlicense: other\nlicense_name: my-terms\n---\n# A model\n"
    put_in_cache(cache, "a/b", {"README.md": card.encode()}, "v1")
    assert find_source(before) == ("hub:a/b@v1", "a/b", "my-terms")
    for gone in ("mae.pth", "x" * 5000, "a\0b", "timm:of_another.version"):
        Run(tmp_path / "run_0").write_config({"checkpoint": gone})
        assert find_source(before) == (gone, None, None)
    Run(tmp_path / "run_0").write_config({"checkpoint": None})
    assert find_source(before) is None
    Run(tmp_path / "run_0").write_config({"checkpoint": str(before)})  # a ring
    found = find_source(before)
    assert found is not None
    assert found.licence is None


@pytest.mark.parametrize("licence", ["My own", "", "---", "a: b"])
def test_a_licence_is_an_identifier(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], licence: str
) -> None:
    assert export(finished, tmp_path / "out", f"--license={licence}") == 2
    assert "--license must be an identifier of the Hub" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
