"""What a stranger's run folder may do: be read, and nothing else."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.runs import Run
from tests.support.arguments import tiny, tiny_finetune
from tests.support.page import Page
from tests.support.run_folders import finetuning, lines, pretraining
from tests.support.stranger import listening, replace_by_pickle, seal

Edit = Callable[[Path], object]


def with_line(**values: Any) -> Edit:
    """A change of the first line of the metrics."""

    def edit(run: Path) -> None:
        file = run / "metrics.jsonl"
        first, *rest = file.read_text().splitlines()
        file.write_text("\n".join([json.dumps(json.loads(first) | values), *rest]))

    return edit


def with_fields(**values: Any) -> Edit:
    """A change of fields of the configuration, with __ for the dots."""

    def edit(run: Path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text())
        for name, value in values.items():
            *sections, field = name.split("__")
            part = config
            for section in sections:
                part = part.setdefault(section, {})
            part[field] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return edit


def with_text(name: str, text: str) -> Edit:
    return lambda run: (run / name).write_text(text)


def with_link(name: str, target: str) -> Edit:
    def edit(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)

    return edit


def with_pipe(name: str) -> Edit:
    def edit(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return edit


LINE = '{"step": 5, "size": 8, "images": 80, "seconds": 1, "data_wait": 0, "loss": %s}\n'

BROKEN: dict[str, tuple[Edit, str]] = {
    "loss_text": (with_line(loss="<script>1</script>"), "must have a number as loss, got '<scr"),
    "loss_list": (with_line(loss=[1.0]), "must have a number as loss, got [1.0]"),
    "loss_nan": (with_text("metrics.jsonl", LINE % "NaN"), "NaN, which is no number of JSON"),
    "loss_huge": (
        with_text("metrics.jsonl", LINE % "1e999"),
        "must have a number as loss, got inf",
    ),
    "loss_digits": (with_text("metrics.jsonl", LINE % ("9" * 5000)), "line 1 of"),
    "loss_deep": (with_text("metrics.jsonl", LINE % ("[" * 60_000)), "nested too deeply"),
    "step_negative": (with_line(step=-1), "must have a step from 0 to 2**53, got -1"),
    "step_gigantic": (with_line(step=10**30), "must have a step from 0 to 2**53, got 1000"),
    "step_float": (with_line(step=1.5), "must have a step from 0 to 2**53, got 1.5"),
    "step_missing": (with_text("metrics.jsonl", '{"loss": 1}\n'), "must have a step from 0"),
    "line_list": (with_text("metrics.jsonl", "[1]\n"), "line 1 of"),
    "line_long": (with_text("metrics.jsonl", "x" * 2**24), "is longer than 65,536 characters"),
    "size_text": (with_line(size="<b>"), "must have a size in pixels, got '<b>'"),
    "size_gigantic": (with_line(size=10**9), "must have a size in pixels, got 1000000000"),
    "eval_loss_text": (with_line(eval_loss="1"), "must have a number as eval_loss, got '1'"),
    "time_text": (with_line(time="now"), "must have a number as time, got 'now'"),
    "time_far": (with_line(time=1e20), "must have a number as time, got 1e+20"),
    "top1_far": (with_line(knn_top1=3), "must have a number as knn_top1, got 3"),
    "many_stages": (
        with_text(
            "metrics.jsonl",
            "".join(
                json.dumps({**json.loads(LINE % 1), "step": step, "size": 8 + step % 2}) + "\n"
                for step in range(1, 2000)
            ),
        ),
        "the number of stages must be at most 1000, got 1999",
    ),
    "metrics_link": (with_link("metrics.jsonl", "../secret"), "must not be a link that leaves"),
    "metrics_pipe": (with_pipe("metrics.jsonl"), "must be a regular file"),
    "metrics_device": (with_link("metrics.jsonl", "/dev/zero"), "must not be a link that leaves"),
    "config_link": (with_link("config.yaml", "../secret"), "must not be a link that leaves"),
    "config_tag": (
        with_text("config.yaml", "model: !!python/object/apply:os.mkdir [ran]"),
        "could not determine a constructor for the tag",
    ),
    "config_laughs": (
        with_text(
            "config.yaml",
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
                for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            )
            + "model: {decoder_dim: 1, x: *i}",
        ),
        "more than 50,000 values",
    ),
    "config_itself": (with_text("config.yaml", "model: &m {decoder_dim: *m}"), "nested more than"),
    "config_big": (with_text("config.yaml", "#" * 2**21), "must have at most 1,048,576 bytes"),
    "config_list": (with_text("config.yaml", "[1]"), "must hold the configuration of a run, got"),
    "deep_decoder": (
        with_fields(model__decoder_depth=10**6),
        "model.decoder_depth must be at most",
    ),
    "deep_encoder": (
        with_fields(model__encoder_args={"depth": 10**6}),
        "model.encoder_args.depth must be at most 256, got 1000000",
    ),
    "batch_text": (with_fields(optim__batch_size="x"), "optim.batch_size in"),
    "batch_zero": (with_fields(optim__batch_size=0), "optim.batch_size in"),
    "seed_pattern": (with_fields(run__seed="(((a+)+)+)+"), "run.seed in"),
    "path_list": (with_fields(data__path=["x"]), "data.path in"),
    "images_text": (with_fields(images__train="<b>"), "images.train in"),
    "text_long": (with_fields(checkpoint="a/" * 3000), "checkpoint in"),
    "text_nul": (with_fields(checkpoint="/a\0b"), "checkpoint in"),
}


def test_report_skips_what_is_broken(tmp_path: Path) -> None:
    """Each folder in one line that says why, and the page is made of the others."""
    (tmp_path / "secret").write_text("model: {decoder_dim: 1}\npassword: hunter2\n")
    pretraining(tmp_path / "runs" / "sound", 0, lines((5, 8, 80, 1.0)))
    (tmp_path / "runs" / "secret").symlink_to("../secret")
    for name, (edit, _) in BROKEN.items():
        edit(pretraining(tmp_path / "runs" / name, 0, lines((5, 8, 80, 1.0))))
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "runs"), f"--out={out}"]) == 0
    text = out.read_text()
    listed = [row[1].split(": ", 1) for row in Page(text).rows if row[:1] == ["skipped"]]
    skipped = {Path(folder).name: reason for folder, reason in listed}
    for name, (_, reason) in BROKEN.items():
        assert reason in skipped[name], name
        assert len(skipped[name]) < 1000
    assert set(skipped) == set(BROKEN)
    assert "hunter2" not in text
    assert not Path("ran").exists()


SCRIPT = "</td></title><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"


def test_pages_stay_inert(tmp_path: Path) -> None:
    """Whatever a run is called and says of itself is text."""
    runs = tmp_path / "runs"
    for number, name in enumerate((SCRIPT.replace("/", "\u2215"), "{{ 7 * 7 }}", "$\\alpha$ %s")):
        run = pretraining(runs / name, number, lines((5, 8, 80, 1.0)), epochs=number + 1)
        odd = {"model__target": SCRIPT, "data__path": SCRIPT, "eval__path": SCRIPT}
        with_fields(**odd, checkpoint=SCRIPT, note=f"{SCRIPT}{{{{ 7 * 7 }}}}{number}")(run)
        with_line(knn_top1=0.5, note=SCRIPT)(run)
        tuned = finetuning(runs / f"tuned_{number}", number, SCRIPT, 0.5)
        with_fields(data__path=SCRIPT, model__encoder=SCRIPT)(tuned)
    (runs / "<script>broken").mkdir()
    (runs / "<script>broken" / "config.yaml").write_text("<script>alert(2)</script>")
    os.mkdir(os.fsencode(runs) + b"/\xff\xfe")  # noqa: PTH102 (bytes that are no text)
    config = os.fsencode(runs) + b"/\xff\xfe/config.yaml"
    Path(os.fsdecode(config)).write_text((run / "config.yaml").read_text())
    out = tmp_path / "page.html"
    assert main(["report", str(runs), f"--out={out}", f"--title={SCRIPT}"]) == 0
    text = out.read_text()
    page = Page(text)
    active = {"script", "iframe", "object", "embed", "link", "form", "base", "foreignobject"}
    assert not page.tags & active
    assert not [name for name in page.attributes if name.startswith("on")]
    assert not any(page.fetched)
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in page.text
    assert SCRIPT in page.text
    for picture in page.pictures:
        kind, _, content = picture.partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert b"<script" not in b64decode(content)


def test_nothing_that_a_run_names_is_opened_unasked(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run, out, picture = tmp_path / "run", tmp_path / "page.html", tmp_path / "picture.png"
    shutil.copytree(finished, run)
    (tmp_path / "marker.py").write_text("open('ran', 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with listening() as (address, requests):
        monkeypatch.setenv("HF_ENDPOINT", address)
        for path in (
            f"parquet:{address}/x.parquet",
            f"webdataset:{address}/x.tar",
            f"imagefolder:{address}/x",
            f"parquet:zip://x.parquet::{address}/x.zip",
            "hub:stranger/images",
            "python:marker:images",
        ):
            with_fields(data__path=path, eval__path=path)(run)
            assert main(["report", str(run), f"--out={out}"]) == 0
            assert "Not drawn: no images" in Page(out.read_text()).text
            assert main(["report", str(run), "--reconstructions", f"--out={out}"]) == 0
            assert f"--data.path must be given: the run's images are {path}" in unescaped(out)
            capsys.readouterr()
            assert main(["reconstruct", f"--checkpoint={run}", f"--out={picture}"]) == 2
            error = capsys.readouterr().err
            assert f"error: --data.path must be given: the run's images are {path}" in error
            assert error.count("\n") == 1
            exported = tmp_path / f"exported_{len(list(tmp_path.iterdir()))}"
            arguments = [f"--checkpoint={run}", "--format=timm", f"--out={exported}"]
            assert main(["export", *arguments]) == 0
        assert requests == []
    assert not Path("ran").exists()


def test_images_that_the_user_gives_are_drawn(finished: Path, clothes: str, tmp_path: Path) -> None:
    run, picture = tmp_path / "run", tmp_path / "picture.png"
    shutil.copytree(finished, run)
    with_fields(data__path="hub:stranger/images")(run)
    arguments = [f"--checkpoint={run}", f"--data.path={clothes}", f"--out={picture}"]
    assert main(["reconstruct", *arguments]) == 0
    assert picture.exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data__mean": "x"}, "has a damaged section data"),
        ({"data__mean": [0.1, 0.2]}, "has a damaged section data"),
        ({"data__sources": [3]}, "has a damaged section data"),
        ({"data__sources": [{"path": ["x"]}]}, "has a damaged section data"),
        ({"data": [1]}, "must have a section data"),
        ({"run__seed": "x"}, "run.seed must be at least 0, got 'x'"),
        ({"curriculum__nyquist": ["x"]}, "curriculum.nyquist must be one of paper, symmetric"),
        ({"model__decoder_depth": 10**6}, "model.decoder_depth must be at most 256"),
        ({"model__encoder": "hf-hub:stranger/model"}, "model.encoder must be the name of a timm"),
        (
            {"model__encoder_args": {"checkpoint_path": "/etc/passwd"}},
            "model.encoder_args must not have checkpoint_path",
        ),
    ],
)
def test_damaged_configurations(
    finished: Path, tmp_path: Path, capsys: Any, changes: dict[str, Any], expected: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "encoder")  # so that export builds the model from the configuration
    with_fields(**changes)(run)
    capsys.readouterr()
    export = ["export", "--format=timm", f"--out={tmp_path / 'out'}"]
    for command in (["reconstruct", f"--out={tmp_path / 'picture.png'}"], export):
        code = main([*command, f"--checkpoint={run}"])
        said = capsys.readouterr().err.splitlines(keepends=True)
        error = "".join(line for line in said if "30 images, 10 classes" not in line)
        needed = ("data", "data__mean", *(name for name in changes if name.startswith("model")))
        if command[0] == "export" and not changes.keys() & set(needed):
            continue
        assert (code, error.count("\n")) == (2, 1), error
        assert expected in error or (command[0] == "export" and "data" in error)


def resumed(run: Path, clothes: str, capsys: Any) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["pretrain", *tiny(clothes, run), "--resume"])
    return code, "".join(
        line for line in capsys.readouterr().err.splitlines(True) if line.startswith("error:")
    )


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl"])
def test_pickles_of_strangers_are_not_executed(
    finished: Path, clothes: str, tmp_path: Path, monkeypatch: Any, capsys: Any, name: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # of other programs on the machine
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = Run(run).checkpoints()[-1].folder
    replace_by_pickle(newest / name, tmp_path / "ran")
    Run(run).checkpoints()[-1].verify()  # a seal is no signature
    code, error = resumed(run, clothes, capsys)
    assert code == 2
    assert f"checkpoint {newest} holds more than tensors and numbers" in error
    assert "nothing in it was executed" in error
    assert error.count("\n") == 1
    replace_by_pickle(newest / name, tmp_path / "ran", plain=True)
    code, error = resumed(run, clothes, capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert f"checkpoint {newest}" in error
    assert not (tmp_path / "ran").exists()
    pickle.loads((newest / name).read_bytes())  # does run
    assert (tmp_path / "ran").exists()


def test_pickles_that_nothing_needs_are_not_opened(
    finished: Path, clothes: str, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = Run(run).checkpoints()[-1].folder
    for name in ("scheduler.bin", "sampler.bin", "dl_state_dict.bin", "scaler.pt", "model.bin"):
        replace_by_pickle(newest / name, tmp_path / "ran")
    assert resumed(run, clothes, capsys) == (0, "")
    replace_by_pickle(newest / "custom_checkpoint_0.pkl", tmp_path / "ran")
    code, error = resumed(run, clothes, capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        *(".lock", "config.yaml.tmp", "metrics.jsonl", "metrics.jsonl.tmp", "bad_images.txt"),
        *("checkpoints/step_00000021.tmp", "checkpoints/step_00000020/optimizer.bin", "mae-et"),
        *("encoder.tmp", "encoder.old.tmp", "encoder"),
    ],
)
def test_links_that_leave_the_folder_are_not_written_through(
    finished: Path, clothes: str, tmp_path: Path, capsys: Any, name: str
) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(finished, run)
    precious.mkdir()
    (precious / "file").write_text("precious")
    link = run / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(precious if not link.suffix or "step_" in link.name else precious / "file")
    if link.parent.name == "step_00000020":
        seal(link.parent)
    code, error = resumed(run, clothes, capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert f"{link} must not be a link that leaves {run}, got one to {precious}" in error
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "precious"


def test_a_run_folder_may_be_a_link(
    finished: Path, clothes: str, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(finished, tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to("elsewhere")
    (tmp_path / "elsewhere" / "own").symlink_to("/")  # which no run writes to
    assert resumed(tmp_path / "run", clothes, capsys) == (0, "")
    assert main(["report", str(tmp_path / "run"), f"--out={tmp_path / 'page.html'}"]) == 0


@pytest.mark.parametrize(
    "name", ["loss_text", "step_negative", "loss_deep", "line_list", "metrics_pipe"]
)
def test_metrics_that_no_run_writes_stop_a_resumption(
    finished: Path, clothes: str, tmp_path: Path, capsys: Any, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    edit, reason = BROKEN[name]
    edit(run)
    code, error = resumed(run, clothes, capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert reason in error


@pytest.fixture(scope="module")
def tuned(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny fine-tuning run."""
    run = tmp_path_factory.mktemp("tuned") / "run"
    arguments = tiny_finetune(clothes, run, optim__epochs=1, optim__warmup_epochs=0)
    assert finetune_main(arguments) == 0
    return run


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "marker:Model"}, "--encoder must be marker:Model for"),
        ({"architecture": "hf-hub:stranger/model"}, "--encoder must be hf-hub:stranger/model for"),
        ({"architecture": "../model"}, "can't be opened"),
        ({"model_args": {"depth": 10**6}}, "model_args.depth must be at most 256"),
        ({"model_args": {"checkpoint_path": "x"}}, "can't be opened"),
        ({"model_args": {"pretrained_cfg": {"url": "ADDRESS/x.pth"}}}, "can't be opened"),
        ({"model_args": ["x"]}, "must be a fine-tuning run or a classifier's folder"),
        ({"label_names": 3}, "0 names for 10 classes"),
        ({"label_names": "abcdefghij"}, "0 names for 10 classes"),
        ({"label_names": [*"abcdefghi", 3]}, "0 names for 10 classes"),
        ({"pretrained_cfg": None}, "must be a fine-tuning run or a classifier's folder"),
        ({"num_classes": 10**12}, "10 names for 1000000000000 classes"),
    ],
)
def test_classifiers_of_strangers(
    tuned: Path,
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    changes: dict[str, Any],
    expected: str,
) -> None:
    """No code of theirs runs, and nothing is fetched, whatever config.json says."""
    folder = tmp_path / "classifier"
    shutil.copytree(tuned / "best", folder)
    (tmp_path / "marker.py").write_text("open('ran', 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with listening() as (address, requests):
        monkeypatch.setenv("HF_ENDPOINT", address)
        config = json.loads((folder / "config.json").read_text()) | changes
        text = json.dumps(config).replace("ADDRESS", address)
        (folder / "config.json").write_text(text)
        capsys.readouterr()
        predict = ["predict", f"--checkpoint={folder}", f"--data={clothes}", "--out=p.csv"]
        assert finetune_main(predict) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
        for name in ("timm", "onnx", "transformers"):
            main(["export", f"--checkpoint={folder}", f"--format={name}", f"--out={name}"])
            assert "Traceback" not in capsys.readouterr().err
        assert requests == []
    assert not Path("ran").exists()


def test_addresses_of_weights_are_not_fetched(
    tuned: Path, clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The folder has weights; where others may be had is of no use."""
    folder = tmp_path / "classifier"
    shutil.copytree(tuned / "best", folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with listening() as (address, requests):
        monkeypatch.setenv("HF_ENDPOINT", address)
        config = json.loads((folder / "config.json").read_text())
        places = {"url": f"{address}/x.pth", "hf_hub_id": "stranger/model", "source": "hf-hub"}
        config["pretrained_cfg"] |= {**places, "file": "/etc/passwd", "custom_load": True}
        (folder / "config.json").write_text(json.dumps(config))
        predict = ["predict", f"--checkpoint={folder}", f"--data={clothes}"]
        assert finetune_main([*predict, f"--out={tmp_path / 'p.csv'}"]) == 0
        (folder / "model.safetensors").unlink()
        assert finetune_main([*predict, f"--out={tmp_path / 'q.csv'}"]) == 2
        assert requests == []


def test_pipes_and_nests_in_a_classifiers_folder(
    tuned: Path, clothes: str, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "classifier"
    for edit in (
        with_pipe("config.json"),
        with_text("config.json", "[" * 10**6),
        with_text("config.json", '{"model_args": {"a": NaN}}'),
        with_link("config.json", "/dev/zero"),
    ):
        shutil.copytree(tuned / "best", folder)
        edit(folder)
        capsys.readouterr()
        predict = ["predict", f"--checkpoint={folder}", f"--data={clothes}"]
        assert finetune_main([*predict, f"--out={tmp_path / 'p.csv'}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        shutil.rmtree(folder)


def test_a_resumed_classifier_with_a_damaged_best(
    tuned: Path, clothes: str, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tuned, run)
    (run / "best" / "config.json").write_text("[" * 10**6)
    arguments = tiny_finetune(clothes, run, optim__epochs=1, optim__warmup_epochs=0)
    capsys.readouterr()
    assert finetune_main([*arguments, "--resume"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_scores_of_strangers(tmp_path: Path) -> None:
    sound = {"checkpoint": "x", "top1": 0.5, "train_images": 8, "test_images": 3, "k": 20}
    broken: dict[str, Any] = {
        "text": "[" * 10**6,
        "score": json.dumps(sound | {"top1": "<script>"}),
        "share": json.dumps(sound | {"top1": 7}),
        "nan": json.dumps(sound | {"top1": float("nan")}),
        "images": json.dumps(sound | {"train_images": "<b>"}),
        "checkpoint": json.dumps(sound | {"checkpoint": ["x"]}),
        "loop": json.dumps(sound | {"checkpoint": str(tmp_path / "loop" / "x")}),
        "far": json.dumps(sound | {"checkpoint": "/" + "x" * 1000}),
        "secret": json.dumps(sound | {"checkpoint": "/root/x/y"}),
        "parts": json.dumps(sound | {"checkpoint": "x/" * 2000}),
        "list": "[1]",
    }
    (tmp_path / "loop").symlink_to("loop")
    for name, text in broken.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "knn.json").write_text(text)
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "runs"), f"--out={out}"]) == 0
    listed = [row[1].split(": ", 1) for row in Page(out.read_text()).rows if row[0] == "skipped"]
    skipped = {Path(folder).name for folder, _ in listed}
    assert skipped == broken.keys() - {"loop", "far", "secret", "parts"}


def unescaped(page: Path) -> str:
    return Page(page.read_text()).text
