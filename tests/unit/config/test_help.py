"""What --help shows: one screen, the options that matter first, and all by section."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from finetune.__main__ import main as finetune_main
from finetune.__main__ import make_parser as finetune_parser
from mae_et.__main__ import COMMANDS
from mae_et.__main__ import main as mae_et_main
from mae_et.commands import pretrain
from mae_et.config.line_parser import LineParser

PARSERS = {name: import_module(f"mae_et.commands.{name}").make_parser for name in COMMANDS}
PARSERS["finetune"] = finetune_parser


def test_help_is_one_screen_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert mae_et_main(["--help"]) == 0
    first = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        finetune_main(["--help"])
    second = capsys.readouterr().out
    for text in (first, second):
        lines = text.splitlines()
        assert len(lines) <= 30
        assert max(map(len, lines)) <= 80
        assert "examples:\n  mae-et" in text
    assert all(f"\n  {command} " in first for command in COMMANDS)


@pytest.mark.parametrize("name", PARSERS)
def test_help_shows_the_first_options(name: str) -> None:
    parser: LineParser = PARSERS[name]()
    shown = set(re.findall(r"^  (--[\w.]+)", parser.format_help(), re.MULTILINE))
    if parser.first:
        named = {f"--{field}" for field in parser.first if field != "images_path"}
        assert shown == named | {"--help_all"}
        assert 9 <= len(named) <= 14
    else:
        options = {text for action in parser._actions for text in action.option_strings}
        long = {text for text in options if text.startswith("--") and not text.endswith("+")}
        assert shown == long - {"--help"}


def test_help_all_shows_every_field_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        mae_et_main(["pretrain", "--help_all"])
    text = capsys.readouterr().out
    parser = pretrain.make_parser()
    options = {f"--{field}" for field in parser.recipe_fields or () if field == "checkpoint"}
    for action in parser._actions:
        if "." in action.dest and action.metavar != "CONFIG" and action.dest[-5:] != ".help":
            options.add(f"--{action.dest}")
    shown = re.findall(r"^  (--[\w.]+)", text, re.MULTILINE)
    assert options <= set(shown)
    assert len(options) > 70
    heads = re.findall(r"^([\w.]+) \(.*\):$", text, re.MULTILINE)
    assert heads == ["model", "model.hog", "curriculum", "data", "optim", "probe", "run", "eval"]
    assert "CONFIG  Path" not in text
    # Within its section each option begins with its name.
    for head in heads:
        section = text[text.index(f"\n{head} (") :].split("\n\n")[0]
        assert all(
            option.startswith(f"--{head}.") for option in re.findall(r"\n  (--\S+)", section)
        )


@pytest.mark.parametrize(
    ("option", "symbol", "default"),
    [
        ("optim.base_lr", "FLOAT", "0.00015"),
        ("optim.min_lr", "FLOAT", "0.0"),
        ("optim.betas", "[FLOAT,FLOAT]", "[0.9, 0.95]"),
        ("run.seed", "INT", "0"),
        ("run.compile", "true|false", "false"),
        ("data.flip", "true|false", "true"),
        ("model.image_size", "INT|[INT,INT]", "224"),
        ("curriculum.sizes", "swin|deit|convnext|[INT|[INT,INT],…]|null", None),
        ("run.mixed_precision", "no|fp16|bf16|null", None),
        ("hours", "FLOAT|null", "null"),
        ("resume", "[auto]", "false"),
    ],
)
def test_types_and_defaults_are_as_they_are_typed(
    option: str, symbol: str, default: str | None
) -> None:
    parser = pretrain.make_parser()
    parser.first = ()
    found = re.search(rf"\n  --{option} (.*?)(?=\n  --|\n\n)", parser.format_help(), re.DOTALL)
    assert found is not None
    text = " ".join(found[1].split())
    assert text.startswith(f"{symbol} ")
    shown = re.search(r"\(default: (.*)\)$", text)
    assert (shown and shown[1]) == default
