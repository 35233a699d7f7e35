"""Recipes that somebody else wrote: plain data of moderate size, or one line that says why not."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from mae_et.__main__ import main
from mae_et.config import PretrainConfig
from mae_et.config.parser import check_recipe
from mae_et.config.untrusted import MAX_NODES, check_within, parse_json, parse_yaml, read_text

TEN = ", ".join(10 * ["{}"])
LAUGHS = (
    "[&a ["
    + TEN.format(*10 * ["x"])
    + "], "
    + ", ".join(
        f"&{name} [{TEN.format(*10 * [f'*{below}'])}]"
        for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
)
"""A billion values in 400 characters."""

HOSTILE = {
    "a tag that runs": ("run: !!python/object/apply:os.mkdir [ran]", "python/object/apply"),
    "a tag that builds": ("!!python/object/new:marker.Model {}", "python/object/new"),
    "a tag that imports": ("run: !!python/module:marker", "python/module"),
    "a section's class": ("model: {class_path: marker.Model}", "class_path in line 1"),
    "a class of an entry": (
        "data:\n  sources:\n  - class_path: marker.Model",
        "class_path in line 3",
    ),
    "a class in arguments": (
        "model: {encoder_args: {x: {class_path: os.mkdir, init_args: {path: ran}}}}",
        "class_path in line 1, which names code to run",
    ),
    "a class by its name": ("model: marker.Model", "model must be a section of fields"),
    "classes by name": ("data: {sources: [marker.Model]}", "data.sources must be a list of"),
    "classes in a text": ("data: {sources: '[{class_path: marker.Model}]'}", "data.sources must"),
    "a dotted list": ("curriculum.stages: [marker.Model]", "curriculum.stages must be a list of"),
    "an appended list": ("curriculum: {stages+: [marker.Model]}", "curriculum.stages+ must be"),
    "arguments in a text": (
        "model: {encoder_args: '{class_path: marker.Model}'}",
        "model.encoder_args must be a section of fields",
    ),
    "another file": ("data: other.yaml", "data must be a section of fields, got 'other.yaml'"),
    "another recipe": ("config: other.yaml", "must be without a config, got 'other.yaml'"),
    "an address": ("optim: http://127.0.0.1:9/x.yaml", "optim must be a section of fields"),
    "a billion laughs": (f"x: {LAUGHS}]", f"more than {MAX_NODES:,} values"),
    "laughs in a text": (f"run: {{seed: '{LAUGHS}]'}}", "run.seed must be a value, got YAML with"),
    "itself": ("model: &m {encoder_args: *m}", "nested more than 32 levels deep"),
    "itself, merged": ("x: &x {<<: *x}", "nested more than 32 levels deep"),
    "deep by aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000)),
        "nested more than 32 levels deep",
    ),
    "a deep list": ("[" * 100_000, "maximum nesting depth"),
    "a deep section": ("run: " + "{a: " * 500 + "1" + "}" * 500, "nested more than 32 levels"),
    "a key twice": ("run: {seed: 1, seed: 2}", "'seed' given twice, again in line 1"),
    "a list as key": ("? [a, b]\n: 1", "a key that is no word in line 1"),
    "a number of 5,000 digits": ("run: {seed: " + "9" * 5000 + "}", "a value can't be read"),
    "month 13": ("run: {seed: 2001-13-01}", "a value can't be read: month must be in 1..12"),
    "nothing": ("", "must be a YAML file of sections, got None"),
    "a word": ("hello", "must be a YAML file of sections, got 'hello'"),
    "two documents": ("run: {}\n---\nrun: {}", "expected a single document"),
    "a NUL": ("run: {output_dir: 'a\0b'}", "control characters are not allowed"),
    "two megabytes": ("#" * 2**21, "must have at most 1,048,576 bytes, got 2,097,152"),
    "many stages": (
        "curriculum: {name: stages, stages: [" + "{size: 8}, " * 5000 + "]}",
        "the length of curriculum.stages must be at most 300, got 5000",
    ),
    "a deep decoder": ("model: {decoder_depth: 1000000}", "model.decoder_depth must be at most"),
    "a deep encoder": (
        "model: {encoder_args: {depth: 1000000}}",
        "model.encoder_args.depth must be at most 256, got 1000000",
    ),
    "weights to fetch": (
        "model: {encoder_args: {pretrained_cfg: {url: 'http://127.0.0.1:9/x.pth'}}}",
        "model.encoder_args must not have pretrained_cfg",
    ),
    "weights to open": (
        "model: {encoder_args: {checkpoint_path: other.pth}}",
        "model.encoder_args must not have checkpoint_path",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_recipes(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, expected = HOSTILE[name]
    (tmp_path / "marker.py").write_text("open('ran', 'w').close()\nclass Model: pass")
    (tmp_path / "other.yaml").write_text("split: validation")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("recipe.yaml").write_text(text)
    started = time.process_time()
    tracemalloc.start()
    assert main(["plan", "--config=recipe.yaml"]) == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    error = capsys.readouterr().err
    assert expected in error
    assert (error.count("\n"), error[:7]) == (1, "error: ")
    assert len(error) < 2100
    assert not Path("ran").exists()
    assert time.process_time() - started < 20  # most of it is imports; unbounded ones take minutes
    assert peak < 2**28


def test_files_that_are_no_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "other_encoding").write_bytes("run: {}".encode("utf-16"))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**33)
    os.mkfifo(tmp_path / "pipe")
    for name, expected in {
        "binary": "can't decode byte",
        "other_encoding": "can't decode byte",
        "sparse": "must have at most 1,048,576 bytes, got 8,589,934,592",
        "pipe": "must be a YAML file or one of",
        ".": "must be a YAML file or one of",
    }.items():
        assert main(["plan", f"--config={tmp_path / name}"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert expected in error


def test_recipes_of_plain_data(tmp_path: Path) -> None:
    """Anchors, merged sections and dotted names are allowed, as before."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: &d {split: a}\noptim: {epochs: 3}\nrun.seed: 3\nx: {<<: *d, y: 1}\n")
    check_recipe(str(recipe), PretrainConfig)
    merged = {"split": "a", "y": 1}
    assert parse_yaml(recipe.read_text()) == {
        "data": {"split": "a"},
        "optim": {"epochs": 3},
        "run.seed": 3,
        "x": merged,
    }
    assert parse_yaml("[1, 0.5, null, true, a]") == [1, 0.5, None, True, "a"]


def test_as_many_values_as_are_allowed() -> None:
    fits = f"[{', '.join(['1'] * (MAX_NODES - 1))}]"
    assert parse_yaml(fits) == [1] * (MAX_NODES - 1)
    with pytest.raises(yaml.YAMLError, match="more than 50,000 values"):
        parse_yaml(f"[{fits}]")
    assert parse_yaml("[" * 32 + "1" + "]" * 32) is not None
    with pytest.raises(yaml.YAMLError, match="nested more than 32 levels"):
        parse_yaml("[" * 33 + "1" + "]" * 33)


def test_pipes_devices_and_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for a writer
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ValueError, match="must be a regular file"):
            read_text(path)
    inside, secret = tmp_path / "run", tmp_path / "secret"
    inside.mkdir()
    secret.write_text("secret")
    (inside / "file").write_text("own")
    for link, target in (("own", "file"), ("away", "../secret"), ("absent", "/not/there")):
        (inside / link).symlink_to(target)
    (tmp_path / "linked").symlink_to(inside)  # a run's folder may itself be one
    for folder in (inside, tmp_path / "linked"):
        assert read_text(folder / "own", within=folder) == "own"
        for link in ("away", "absent"):
            with pytest.raises(ValueError, match="must not be a link that leaves"):
                read_text(folder / link, within=folder)
    check_within(inside / "not_yet" / "there", inside)
    assert read_text(inside / "away") == "secret"


def test_json_nested_without_end() -> None:
    assert parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 10**6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {encoder: 5}", "model.encoder must be a text (Name of a timm "),
        ("model: {encoder: null}", "model.encoder must be a text, got null"),
        ("optim: {epochs: null}", "optim.epochs must be a number, got null"),
        ("curriculum: {name: null}", "curriculum.name must be efficienttrain, "),
        ("data: {sources: [{path: null}]}", "data.sources.path must be a text, got null"),
    ],
)
def test_values_of_the_wrong_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    """Jsonargparse takes null for a field that is not given, and passes it on."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    assert main(["plan", "--config", str(recipe)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}")
