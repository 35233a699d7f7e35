"""The export command: every format opened by its library and compared in numbers, and the card."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import PIL.ImageOps
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from finetune.__main__ import main as finetune_main
from mae_et import data, load_mae_checkpoint
from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.weights import model_card as card
from mae_et.weights.timm_folder import save_timm_folder
from tests.support.arguments import tiny, tiny_finetune
from tests.support.images import encode, picture
from tests.support.models import SMALL, make_classifier
from tests.support.tensors import seeded

transformers = pytest.importorskip("transformers")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def pretrained(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pretraining run."""
    run = tmp_path_factory.mktemp("pretrained") / "run"
    assert main(["pretrain", *tiny(clothes, run)]) == 0
    return run


@pytest.fixture(scope="module")
def finetuned(clothes: str, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny fine-tuning run from its encoder, classifying the average of the patches."""
    run = tmp_path_factory.mktemp("finetuned") / "run"
    arguments = tiny_finetune(clothes, run, checkpoint=pretrained / "encoder")
    assert finetune_main([*arguments, "--augment.randaug=null"]) == 0
    return run


def export(checkpoint: Path, library: str, out: Path, *further: str) -> int:
    return main(
        ["export", f"--checkpoint={checkpoint}", f"--format={library}", f"--out={out}", *further]
    )


def opened(folder: Path) -> Any:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def run_onnx(folder: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(output)


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


# --- formats


@pytest.mark.parametrize("checkpoint", ["run", "run/encoder"])
@pytest.mark.parametrize("library", ["timm", "onnx"])
def test_encoder(pretrained: Path, tmp_path: Path, library: str, checkpoint: str) -> None:
    assert export(pretrained.parent / checkpoint, library, tmp_path / "out") == 0
    encoder, images = opened(pretrained / "encoder"), seeded(5, 1, 16, 16)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((pretrained / "encoder" / "config.json").read_text())
    with torch.no_grad():
        expected = encoder(images)
        if library == "timm":
            assert torch.equal(opened(tmp_path / "out")(images), expected)
    for number in (1, 5) if library == "onnx" else ():
        features = run_onnx(tmp_path / "out", images[:number])
        torch.testing.assert_close(features, expected[:number], atol=1e-5, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_masked_autoencoder(pretrained: Path, tmp_path: Path) -> None:
    assert export(pretrained, "transformers", tmp_path / "out") == 0
    theirs = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "out").eval()
    ours = load_mae_checkpoint(pretrained)
    images, noise = seeded(3, 1, 16, 16), seeded(3, 16, uniform=True)
    with torch.no_grad():
        expected, output = ours(images, noise), theirs(images, noise=noise)
    torch.testing.assert_close(output.logits, expected.prediction, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, expected.loss, atol=0, rtol=1e-5)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert list(processor.image_mean) == [0.3]
    assert processor.crop_size["height"] == 16


@pytest.mark.parametrize("checkpoint", ["run", "run/best", "run/last"])
@pytest.mark.parametrize("library", ["timm", "transformers", "onnx"])
def test_classifier(finetuned: Path, tmp_path: Path, library: str, checkpoint: str) -> None:
    folder = finetuned / ("last" if checkpoint == "run/last" else "best")
    assert export(finetuned.parent / checkpoint, library, tmp_path / "out") == 0
    images = seeded(5, 1, 16, 16)
    with torch.no_grad():
        expected = opened(folder)(images)
        if library == "timm":
            assert torch.equal(opened(tmp_path / "out")(images), expected)
        elif library == "transformers":
            model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out")
            torch.testing.assert_close(model(images).logits, expected, atol=1e-5, rtol=0)
            names = json.loads((folder / "config.json").read_text())["label_names"]
            assert [model.config.id2label[number] for number in range(10)] == names
        else:
            for number in (1, 5):
                logits = run_onnx(tmp_path / "out", images[:number])
                torch.testing.assert_close(logits, expected[:number], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_base_patch16_224", {"global_pool": "token", "img_size": (32, 16)}),
        ("vit_small_patch14_reg4_dinov2", {"global_pool": "avg"}),
        ("vit_base_patch16_clip_224", {}),
    ],
)
def test_onnx_of_what_transformers_has_not(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    model = make_classifier(name, **arguments)
    height, width = model.patch_embed.img_size
    save_timm_folder(
        model,
        tmp_path / "best",
        model_args={**SMALL, "img_size": [height, width], "patch_size": 8, **arguments},
        pretrained_cfg={"input_size": [3, height, width]},
    )
    assert export(tmp_path / "best", "onnx", tmp_path / "out") == 0
    images = seeded(5, 3, height, width)
    with torch.no_grad():
        expected = model(images)
    for number in (1, 5):
        output = run_onnx(tmp_path / "out", images[:number])
        torch.testing.assert_close(output, expected[:number], atol=1e-4, rtol=0)
    assert np.ptp(expected.numpy()) > 0.1
    assert export(tmp_path / "best", "transformers", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.tmp").exists()


def test_a_run_that_has_not_ended(pretrained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    shutil.rmtree(run / "encoder")
    assert export(run, "timm", tmp_path / "out") == 0
    images = seeded(2, 1, 16, 16)
    with torch.no_grad():
        expected = opened(pretrained / "encoder")(images)
        assert torch.equal(opened(tmp_path / "out")(images), expected)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]["mean"] == [
        0.3
    ]


# --- the card


def test_card_of_a_masked_autoencoder(pretrained: Path, tmp_path: Path) -> None:
    assert export(pretrained, "transformers", tmp_path / "out") == 0
    front, text = read_card(tmp_path / "out")
    assert front["library_name"] == "transformers"
    assert "pipeline_tag" not in front
    assert "| 8 | 1 to 10 |\n| 12 | 11 to 15 |\n| 16 | 16 to 20 |" in text
    assert "80 training images and 20 held-out ones" in text
    last = [line for line in Run(pretrained).read_metrics() if "eval_loss" in line][-1]
    assert f"| last | 20 | {last['eval_loss']:.4f} |" in text
    config = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert config["optim"]["batch_size"] == 16
    (line,) = re.findall(r"`(PIL.*)`; transparent ones on white", text)  # what it says has to work
    photo = encode(picture(), orientation=6)
    shown = eval(line, {"PIL": PIL, "image": Image.open(io.BytesIO(photo))})
    ours = data.open_image({"bytes": photo, "path": None}, 1, "a").decode()
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(ours))


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_card_of_a_classifier(
    finetuned: Path, pretrained: Path, tmp_path: Path, library: str
) -> None:
    assert export(finetuned, library, tmp_path / "out") == 0
    front, text = read_card(tmp_path / "out")
    assert front["pipeline_tag"] == "image-classification"
    assert "10: " in text.split("## Classes")[1]
    assert f"Started from the weights of `{pretrained / 'encoder'}`" in text
    scores = [line for line in Run(finetuned).read_metrics() if "top1" in line]
    best = max(line["top1"] for line in scores)
    assert f"| {best:.4f} |" in next(line for line in text.splitlines() if "| best |" in line)
    assert ("BeitForImageClassification" in text) == (library == "transformers")
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # what the card says has to work
    assert names["model"].eval() is names["model"]


def test_card_of_a_classifier_from_scratch(clothes: str, finetuned: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = tiny_finetune(clothes, run, optim__epochs=0.2, optim__warmup_epochs=0)
    assert finetune_main([*arguments, "--augment.randaug=null"]) == 0
    for folder, expected in (
        (run, "from scratch"),
        (finetuned, "fine-tuned from a pretrained encoder"),
    ):
        assert export(folder, "timm", tmp_path / folder.parent.name / "out") == 0
        text = read_card(tmp_path / folder.parent.name / "out")[1]
        assert expected in text.split("```")[0]
        assert ("Started from" in text) == (folder == finetuned)


def test_long_lists_of_classes_stay_in_the_configuration(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "MAX_CLASSES", 9)
    assert export(finetuned, "timm", tmp_path / "out") == 0
    assert "10: see `config.json`" in read_card(tmp_path / "out")[1]


# --- the Hub


class FakeApi:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repository: str, **options: Any) -> str:
        self.asked.append((repository, options))
        return f"https://huggingface.co/{repository}"

    def upload_folder(self, **options: Any) -> None:
        self.asked.append((options["repo_id"], options))
        self.files = sorted(path.name for path in Path(options["folder_path"]).iterdir())


def test_push(
    finetuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = FakeApi()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    out = tmp_path / "out"
    assert export(finetuned, "timm", out, "--push_to_hub=me/clothes", "--private") == 0
    assert api.asked[0] == ("me/clothes", {"private": True, "exist_ok": True})
    assert api.asked[1][1]["folder_path"] == str(out)
    assert api.files == ["README.md", "config.json", "model.safetensors"]
    assert 'timm.create_model("hf-hub:me/clothes"' in read_card(out)[1]
    assert "uploaded: https://huggingface.co/me/clothes" in capsys.readouterr().out


def test_push_without_network(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tests run with HF_HUB_OFFLINE=1."""
    assert export(finetuned, "timm", tmp_path / "out", "--push_to_hub=me/clothes") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "--push_to_hub me/clothes failed (OfflineModeIsEnabled" in errors[0]
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_named_checkpoint_is_the_one_that_is_exported(
    pretrained: Path, tmp_path: Path, library: str
) -> None:
    first, last = Run(pretrained).checkpoints()
    name = "norm.bias" if library == "timm" else "vit.layernorm.bias"
    assert export(first.folder, library, tmp_path / "out") == 0
    exported = load_file(tmp_path / "out" / "model.safetensors")[name]
    assert torch.equal(exported, load_file(first.weights)["encoder.norm.bias"])
    assert not torch.equal(exported, load_file(last.weights)["encoder.norm.bias"])


# --- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "nothing"}, "--checkpoint must be a run's folder, its encoder or its"),
        ({"checkpoint": "run/checkpoints"}, "--checkpoint must be a run's folder"),
        ({"format": "coreml"}, "coreml"),
        ({"push_to_hub": "clothes"}, "--push_to_hub must be OWNER/NAME, got 'clothes'"),
        ({"private": None}, "--push_to_hub must be given, got None"),
        ({"out": "run"}, "--out must be a new or an empty folder"),
        ({"out": "run/config.yaml"}, "--out must be a new or an empty folder"),
        ({"out": "run/config.yaml/out"}, "--out must be"),
        ({"fromat": "timm"}, "nearest: format"),
    ],
)
def test_bad_option(
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str | None],
    message: str,
) -> None:
    given = {"checkpoint": "run", "format": "timm", "out": str(tmp_path / "out"), **options}
    for name in ("checkpoint", "out"):
        given[name] = str(pretrained.parent / str(given[name]))  # an absolute path stays
    arguments = [f"--{name}={value}" if value else f"--{name}" for name, value in given.items()]
    assert main(["export", *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("a: 1\n")
    assert export(tmp_path, "timm", tmp_path / "out") == 2
    assert "must be a run's folder with a checkpoint in it" in capsys.readouterr().err


def test_an_encoder_without_its_run(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(pretrained / "encoder", tmp_path / "encoder")
    assert export(folder, "timm", tmp_path / "timm") == 0
    assert "## Training" not in read_card(tmp_path / "timm")[1]
    assert export(folder, "transformers", tmp_path / "out") == 2
    assert "must be the pretraining run for --format transformers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_configuration(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    for content in ("{}", "{", "[]"):
        (run / "encoder" / "config.json").write_text(content)
        assert export(run, "timm", tmp_path / "out") == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1
        assert "config.json" in errors[0]


def test_damaged_weights(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    (run / "encoder" / "model.safetensors").write_bytes(b"\0" * 100)
    assert export(run, "onnx", tmp_path / "out") == 2
    assert "model.safetensors is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
