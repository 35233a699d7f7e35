"""Weights by name: from a cache made by hand, from a Hub of this machine, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save

from mae_et import load_mae_checkpoint
from mae_et.weights import TimmFolder, find_weights
from mae_et.weights.by_name import Named
from mae_et.weights.origin import TransformersFolder
from tests.support.hub import COMMIT, Hub, folder_files, put_in_cache, serve_hub
from tests.support.models import PROCESSOR, BuildMAE, make_classifier, randomized
from tests.support.paths import ROOT
from tests.support.tensors import seeded

TAG = "timm:test_vit.r160_in1k"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub; without a network, as all tests are."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert constants.HF_HUB_OFFLINE
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, with an empty cache."""
    with serve_hub() as served:
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served


def test_a_tag_of_timm(cache: Path) -> None:
    model = randomized(timm.create_model("test_vit"))
    put_in_cache(cache, "timm/test_vit.r160_in1k", {"model.safetensors": save(model.state_dict())})
    found = find_weights(TAG)  # timm's own cache has no config.json
    assert isinstance(found, TimmFolder)
    assert found.normalisation == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert found.class_names is not None
    assert found.class_names[:2] == ["n01440764", "n01443537"]
    read = found.read()
    assert (read.encoder, read.grid, read.num_heads) == ("test_vit", (10, 10), 2)
    assert torch.equal(read.weights["encoder.norm.bias"], model.norm.bias)
    images = seeded(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(found.build()(images), model(images))


def test_weights_of_other_programs_are_turned_into_timms(cache: Path) -> None:
    """DINOv2 has a mask token, of which timm has no use, and the layout of its MLPs is older."""
    weights = randomized(timm.create_model("test_vit")).state_dict()
    theirs = {**weights, "mask_token": torch.ones(1, 64)}
    put_in_cache(cache, "timm/test_vit.r160_in1k", {"model.safetensors": save(theirs)})
    state = torch.get_rng_state()
    read = find_weights(TAG).read()
    assert torch.equal(torch.get_rng_state(), state)
    assert read.weights.keys() == {f"encoder.{name}" for name in weights}
    assert all(torch.equal(read.weights[f"encoder.{name}"], weights[name]) for name in weights)
    del theirs["norm.bias"]  # what can't be turned stays, and no new weights fill the gap
    put_in_cache(cache, "timm/test_vit.r160_in1k", {"model.safetensors": save(theirs)})
    assert "encoder.norm.bias" not in find_weights(TAG).read().weights


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/3", COMMIT])
def test_a_vit_mae_of_transformers(
    cache: Path, tmp_path: Path, make_mae: BuildMAE, revision: str
) -> None:
    from mae_et.weights.to_transformers import image_processor, save_transformers, to_vit_mae

    model = make_mae()
    (tmp_path / "mae").mkdir()
    save_transformers(to_vit_mae(model), image_processor(**PROCESSOR), tmp_path / "mae")
    put_in_cache(cache, "someone/mae", folder_files(tmp_path / "mae"), revision)
    name = "hub:someone/mae" + ("" if revision == "main" else f"@{revision}")
    found = find_weights(name)
    assert isinstance(found, TransformersFolder)
    assert found.normalisation == {"mean": [0.5] * 3, "std": [0.2] * 3}
    loaded = load_mae_checkpoint(Path(name))  # a command may make a path of its option
    images, noise = seeded(2, 3, 32, 32), seeded(2, 16, uniform=True)
    with torch.no_grad():
        assert torch.equal(loaded(images, noise).loss, model(images, noise).loss)


def test_what_is_on_disk_goes_before_a_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_to = tmp_path / "hub:me" / "encoder"
    save_to.mkdir(parents=True)
    (save_to / "config.json").write_text(json.dumps({"architecture": "test_vit"}))
    found = find_weights("hub:me/encoder")
    assert (found.path, found.name) == (Path("hub:me/encoder"), "")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="checkpoint hub:me/encoder is not in the cache"):
        find_weights("hub:me/encoder")


# --- a Hub


def encoder_files() -> dict[str, bytes]:
    weights = make_classifier("test_vit", embed_dim=64, depth=1).state_dict()
    config = {"architecture": "test_vit", "num_classes": 7, "pretrained_cfg": {}}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(weights)}


def test_a_repository_is_fetched_once_and_then_read_without_a_network(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = {"README.md": b"---\nlicense: mit\n---\n", "pytorch_model.bin": b"a", "code.py": b"b"}
    hub.repositories["me/encoder"] = {**encoder_files(), **further}
    found = [find_weights("hub:me/encoder") for _ in range(2)]
    assert found[0].path == found[1].path
    assert sorted(file.name for file in found[0].path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert set(hub.downloads.values()) == {1}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = hub.asked.copy()
    assert find_weights("hub:me/encoder").path == found[0].path
    assert hub.asked == asked
    shutil.rmtree(cache)
    with pytest.raises(
        ValueError,
        match=r"^checkpoint hub:me/encoder is not in the cache .*, which lacks its config.json, "
        r"and HF_HUB_OFFLINE is set; where there is a network, type hf download me/encoder "
        r"README\.md config\.json model\.safetensors preprocessor_config\.json$",
    ):
        find_weights("hub:me/encoder")


@pytest.mark.slow
def test_of_several_processes_one_fetches(hub: Hub, cache: Path) -> None:
    hub.repositories["me/encoder"] = encoder_files()
    code = "from mae_et.weights import find_weights; find_weights('hub:me/encoder')"
    environment = {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": hub.address, "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    assert hub.downloads == {"config.json": 1, "model.safetensors": 1}


def test_what_a_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    files = encoder_files()
    hub.repositories |= {
        "me/gated": files,
        "me/here": files,
        "me/pickled": {"config.json": b'{"model_type": "vit_mae"}', "pytorch_model.bin": b"x"},
        "me/words": {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"},
        "me/data": {"data.csv": b"x"},
        "me/odd": {"config.json": b"{}", "model.safetensors": b"x"},
        "me/broken": {"config.json": b"{", "model.safetensors": b"x"},
    }
    hub.gated.add("me/gated")
    expected = {
        "hub:me/nothing": "hub:me/nothing does not exist on the Hub, or is private",
        "hub:me/here@v2": "hub:me/here@v2 has no revision v2",
        "hub:me/gated": "hub:me/gated is gated: ask for access at https://huggingface.co/me/gated",
        "hub:me/pickled": "has no model.safetensors, and no other file of weights is fetched",
        "hub:me/words": "hub:me/words must be a ViTMAE if it is a folder of transformers",
        "hub:me/data": "hub:me/data has no config.json",
        "hub:me/odd": "must be a ViTMAE of transformers or a folder of timm",
        "hub:me/broken": "damaged config.json",
        "hub:me--x/y": "hub:me--x/y is no name of a repository on the Hub",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=r"^checkpoint .*") as error:
            find_weights(name)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert "pytorch_model.bin" not in hub.asked
    assert hub.downloads["model.safetensors"] == 0  # a config.json is looked at first


# --- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:", "must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION, got hub:"),
        ("hub:gpt2", "must be hub:OWNER/NAME or"),
        ("hub:a/b/c", "must be hub:OWNER/NAME or"),
        ("hub:../b", "must be hub:OWNER/NAME or"),
        ("hub:a/b@", "must be hub:OWNER/NAME or"),
        ("timm:", "must be timm:MODEL.TAG as timm.list_pretrained"),
        ("timm:vit_base_patch16_224.meo", "nearest: timm:vit_base_patch16_224.mae"),
        ("timm:vit_base_patch16_224", "with the tag of its weights: one of timm:vit_base_patch16_"),
        ("timm:vit_bas_patch16_224.mae", "nearest: timm:vit_base_patch16_224.mae"),
        ("timm:test_vit3", "with the tag of its weights: one of timm:test_vit3.r160_in1k"),
        ("timm:vit_tiny_patch16_gap_reg", "as timm.list_pretrained() lists them"),
        ("vit_base_patch16_224.mae", "timm's weights have names such as timm:vit_base_patch16_224"),
        ("test_vit", "timm's weights have names such as timm:test_vit.r160_in1k"),
        ("facebook/vit-mae-base", "if it is a repository on the Hub, give hub:facebook/vit-mae-"),
        ("https://huggingface.co/a/b", "on the Hub, it is hub:a/b"),
        ("hf-hub:a/b", "on the Hub, it is hub:a/b"),
    ],
)
def test_what_is_no_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint ") as error:
        find_weights(name)
    assert message in str(error.value)


def test_a_model_without_any_pretrained_weights() -> None:
    model = next(m for m in timm.list_models("vit_*") if not timm.list_pretrained(f"{m}.*"))
    with pytest.raises(ValueError, match=f"a model that timm has weights of, and {model} has none"):
        Named.of(f"timm:{model}")


def test_all_weights_of_timm_on_the_hub_have_a_name() -> None:
    for tag in timm.list_pretrained():
        try:
            named = Named.of(f"timm:{tag}")
        except ValueError as error:
            assert "must have safetensors on the Hub" in str(error)  # noqa: PT017
            continue
        assert named is not None
        assert named.tag is not None
        names = named.tag.get("label_names")
        assert names is None or len(names) == named.tag["num_classes"]
