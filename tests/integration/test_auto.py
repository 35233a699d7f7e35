"""Runs on images alone: what is chosen, how long they take, what is said, and what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mae_et
from mae_et.__main__ import main
from mae_et.auto import facts, resolver
from mae_et.planning.measure import StepTime
from mae_et.runs import Run
from mae_et.training import outlook
from tests.support.arguments import tiny


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for shorter, with steps of milliseconds."""
    monkeypatch.setattr(resolver, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(resolver, "LAST_SECONDS", 0.01)
    monkeypatch.setattr(resolver, "LAST_ROUNDS", 1)
    monkeypatch.setattr(facts, "MOST_IMAGES", 30)


QUICK = ("--run.tracker=none", "--data.num_workers=0")


def test_a_run_from_images_and_hours(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["pretrain", str(image_folder), "--hours=0.01", f"--out={out}", *QUICK]) == 0
    said = capsys.readouterr().err
    table = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ")}
    assert re.search(r"model\.in_chans +1 +all of the 30 images looked at are grey", said)
    assert re.search(r"model\.image_size +28 ", said)
    assert re.search(r"optim\.epochs +[\d.]+ +0\.01 hours at the measured [\d,]+/", said)
    assert re.search(r"data\.num_workers +0 +given", said)
    run = Run(out)
    config = run.read_config()
    for name in ("model.encoder_args", "data.mean", "optim.batch_size", "run.checkpoint_every"):
        section, field = name.split(".")
        assert name in table
        assert config[section][field] is not None
    assert config["curriculum"]["name"] == "efficienttrain_plus"
    assert config["run"]["hours"] == 0.01
    assert run.encoder.is_dir()
    assert "left, loss" in said

    step = run.read_metrics()[-1]["step"]
    shutil.rmtree(run.encoder)
    arguments = [str(image_folder), f"--out={out}", "--resume=auto", "--hours=0.005"]
    assert main(["pretrain", *arguments]) == 0  # with the settings that it has
    assert "looked at" not in capsys.readouterr().err
    assert run.read_metrics()[-1]["step"] == step
    assert run.encoder.is_dir()
    assert main(["pretrain", str(image_folder), f"--out={out}"]) == 2
    assert "holds a run; add --resume to continue it, or --out" in capsys.readouterr().err

    again = ["--config", str(out / "config.yaml"), f"--out={tmp_path}/again", "--optim.epochs=2"]
    assert main(["pretrain", *again, "--optim.warmup_epochs=0", "--run.on_late=go"]) == 0
    assert "measured" not in capsys.readouterr().err  # its hours are not planned once more
    assert Run(tmp_path / "again").read_config()["model"] == config["model"]


def test_what_is_given_is_used(clothes: str, tmp_path: Path) -> None:
    options = [
        *tiny(clothes, tmp_path / "run", optim__epochs=2),
        "--run.progress=false",
    ]
    options = [option for option in options if not option.startswith("--data.path")]
    assert main(["pretrain", clothes, *options]) == 0
    config = Run(tmp_path / "run").read_config()
    assert config["data"]["path"] == clothes
    assert config["optim"]["batch_size"] == 16
    assert config["model"]["decoder_dim"] == 16
    assert config["model"]["target"] == "pixel"  # chosen, for their black ground


def test_a_network_without_a_recipe(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SimMIM of a small ConvNeXt: all but the network follows from the images."""
    out = tmp_path / "run"
    network = ["--model.method=simmim", "--model.encoder=convnext_atto"]
    arguments = "{patch_size: 1, depths: [1, 1, 1, 1], dims: [8, 8, 8, 8]}"
    options = [*network, f"--model.encoder_args={arguments}", "--optim.epochs=2", f"--out={out}"]
    assert main(["pretrain", str(image_folder), *options, *QUICK]) == 0
    assert re.search(r"model\.mask_unit +2 +at least 7 units a side", capsys.readouterr().err)
    run = Run(out)
    assert run.read_config()["model"]["image_size"] == 24
    assert run.encoder.is_dir()


def test_hours_with_a_recipe_choose_its_epochs(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tiny(clothes, "unused")
    settings: dict[str, Any] = {}
    for option in given:
        name, _, value = option[2:].partition("=")
        section, field = name.split(".")
        settings.setdefault(section, {})[field] = value
    del settings["optim"]["epochs"], settings["optim"]["warmup_epochs"], settings["run"]
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "".join(
            f"{section}:\n" + "".join(f"  {name}: {value}\n" for name, value in fields.items())
            for section, fields in settings.items()
        )
    )
    out = tmp_path / "run"
    options = [f"--config={recipe}", f"--out={out}", "--hours=0.004", "--run.tracker=none"]
    assert main(["pretrain", *options]) == 0
    said = capsys.readouterr().err
    assert "0.004 hours at the measured" in said
    config = Run(out).read_config()
    assert config["curriculum"]["name"] == "stages"
    assert config["optim"]["batch_size"] == 16
    assert config["optim"]["epochs"] != 400
    epochs = config["optim"]["epochs"]
    assert main(["pretrain", *options, "--resume"]) == 0  # with the epochs that it has
    assert Run(out).read_config()["optim"]["epochs"] == epochs
    options[1] = f"--out={tmp_path}/other"
    assert main(["pretrain", *options, "--resume"]) == 2
    assert "--resume needs a run in run.output_dir, got none in" in capsys.readouterr().err
    assert main(["pretrain", *options, "--optim.epochs=3"]) == 2
    assert "--hours must be left out with --optim.epochs, got 0.004" in capsys.readouterr().err


def test_the_plan_shows_the_same_settings(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", str(image_folder), "--hours=0.005", "--price_per_hour=3", *QUICK]) == 0
    captured = capsys.readouterr()
    assert re.search(r"run\.output_dir|model\.in_chans +1 ", captured.err)
    assert "price: 0.0" in captured.out
    assert not list(tmp_path.iterdir())


def test_the_time_may_run_out(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a run that is slower than it was measured: here, because the measurement is made up."""
    monkeypatch.setattr(outlook, "SETTLED", 0.0)
    monkeypatch.setattr(outlook, "LEAST_SETTLED", 0.0)
    measure: Any = vars(resolver)["measure"]

    def optimistic(*arguments: Any, **options: Any) -> Any:

        speed = measure(*arguments, **options)
        steps = {size: replace(t, seconds=t.seconds / 50) for size, t in speed.steps.items()}
        return replace(speed, steps=steps)

    monkeypatch.setattr(resolver, "measure", optimistic)
    out = tmp_path / "run"
    arguments = [str(image_folder), "--hours=0.004", f"--out={out}", "--run.on_late=stop"]
    assert main(["pretrain", *arguments, "--run.log_every=1", *QUICK]) == 75
    said = capsys.readouterr().err
    assert "the run is slower than planned:" in said
    assert "checkpoint saved; --resume auto continues" in said
    assert Run(out).latest_checkpoint() is not None


@pytest.mark.parametrize("helps", [True, False])
def test_a_slow_loader_is_relieved(
    helps: bool,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By smaller images, then by using images again; here, the measurement is made up."""
    measure: Any = vars(resolver)["measure"]

    def slow(config: Any, *arguments: Any, **options: Any) -> Any:
        speed = measure(config, *arguments, **options)
        seconds = 0.5 if config.data.replay and helps else 1.0
        times = {size: StepTime(seconds=seconds, waited=seconds / 2) for size in speed.steps}
        return replace(speed, steps=times)

    monkeypatch.setattr(resolver, "measure", slow)
    options = ["--optim.epochs=3", "--optim.batch_size=8", *QUICK]
    assert main(["plan", str(image_folder), *options]) == 0
    table = capsys.readouterr().err
    assert ("[size 20, ratio 2, batches 256, size 12, ratio 4" in table) == helps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hours=1e-6"], "which looking and measuring take alone"),
        (["--hours=1", "--optim.epochs=3"], "--hours must be left out, since optim.epochs is"),
        (["--hours=-1"], "--hours must be above 0, got -1"),
        (["--model.method=hiera"], "model.method must be mae or simmim without a recipe"),
        (
            ["--model.encoder=convnext_atto"],
            "got 'convnext_atto' (convnext); --model.method simmim",
        ),
        (["--model.patch_size=32"], "must hold images of at least 64 pixels"),
    ],
)
def test_bad_lines(
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    assert main(["pretrain", str(image_folder), f"--out={out}", *QUICK, *arguments]) == 2
    (line,) = (row for row in capsys.readouterr().err.splitlines() if row.startswith("error: "))
    assert message in line
    assert not out.exists()


def test_too_many_unreadable_images_are_an_error_before_measuring(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(image_folder, tmp_path / "images")
    for file in sorted(folder.rglob("*.png"))[::2]:
        file.write_bytes(b"no picture")
    assert main(["plan", str(folder), "--optim.epochs=3", *QUICK]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "must hold readable images, got" in error
    assert "--data.max_bad_share" in error


def test_nothing_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for number in range(12):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no picture")
    assert main(["pretrain", str(tmp_path / "images"), "--hours=0.1"]) == 2
    assert "must hold images, got 11 of which none is readable" in capsys.readouterr().err


def test_the_python_api(
    clothes: str,
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"run": {"tracker": "none"}, "data": {"num_workers": 0}}
    plan = mae_et.plan(image_folder, hours=0.01, **settings)
    assert plan is not None
    assert plan.hours is not None
    settings["optim"] = {"epochs": 4, "batch_size": 16}
    run = mae_et.pretrain(image_folder, **settings)
    assert run.folder == Path(f"runs/{image_folder.name}")
    assert run.config["data"]["num_workers"] == 0
    assert run.metrics["loss"].dropna().iloc[-1] < run.metrics["loss"].iloc[0]
    assert run.metrics["eval_loss"].notna().any()
    encoder = run.encoder()
    assert not encoder.training
    assert encoder.num_features == run.config["model"]["encoder_args"]["embed_dim"]
    figure = run.reconstruct(num_images=2)
    assert len(figure.axes) > 2
    assert run.report().read_text().startswith("<!DOCTYPE html>")
    assert repr(run) == f"Run('{run.folder}')"
    other = mae_et.pretrain(clothes, out="other", resume="auto", **settings)
    assert other.config["optim"]["epochs"] == 4
    with pytest.raises(ValueError, match=r"holds a run; add --resume to continue it"):
        mae_et.pretrain(clothes, out="other", **settings)
    wrong: dict[str, Any] = {"optim": {"epoch": 1}}
    with pytest.raises(ValueError, match=r"unknown option optim\.epoch; nearest: optim\.epochs"):
        mae_et.pretrain(clothes, **wrong)
    with pytest.raises(ValueError, match="folder must hold a run, got nowhere"):
        mae_et.Run("nowhere")


@pytest.mark.parametrize("given", ["--model.in_chans=3", "--data.mean=[0.2,0.3,0.4]"])
def test_channels_that_are_given(image_folder: Path, tmp_path: Path, given: str) -> None:
    """Even of grey images: the rest is chosen to go with them."""
    options = ["--optim.epochs=3", "--optim.batch_size=8", f"--out={tmp_path}/run", *QUICK]
    assert main(["pretrain", str(image_folder), given, *options]) == 0
    config = Run(tmp_path / "run").read_config()
    assert config["model"]["in_chans"] == len(config["data"]["mean"]) == 3
    assert len(config["data"]["std"]) == 3
