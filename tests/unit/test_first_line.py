"""The line that a command prints before it imports PyTorch."""

from __future__ import annotations

import json
import sys

import pytest

from mae_et import __version__
from mae_et.first_line import first_line
from tests.support.launch import subprocess_run

PLAN = ["plan", "--config", "mae_vit_b_16", "--model.encoder", "vit_tiny_patch16_224"]
LINE = f"mae-et {__version__}: plan begins by importing PyTorch"


def test_the_line_comes_first_and_once_and_leaves_stdout_clean() -> None:
    result = subprocess_run(["-m", "mae_et", *PLAN, "--json", "-"])
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines().count(LINE) == 1
    assert result.stderr.splitlines()[0] == LINE
    assert json.loads(result.stdout)["batch_size"] == 4096


def test_the_line_comes_before_torch_is_imported() -> None:
    """A torch that cannot be imported stands for one that takes long."""
    program = (
        "import sys, types; from mae_et.first_line import first_line\n"
        "class Halt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': sys.exit(5)\n"
        "sys.meta_path.insert(0, Halt())\n"
        "with first_line('hello'): import torch"
    )
    result = subprocess_run(["-c", program])
    assert (result.returncode, result.stderr, result.stdout) == (5, "hello\n", "")


@pytest.mark.parametrize(("rank", "number"), [("0", 1), ("1", 0)])
def test_one_of_several_processes_prints_it(rank: str, number: int) -> None:
    program = "from mae_et.first_line import first_line\nwith first_line('hello'): import torch"
    result = subprocess_run(["-c", program], WORLD_SIZE="2", RANK=rank)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "hello\n" * number


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("mae_et", ["plan", "--config", "nowhere"]),
        ("mae_et", ["plan", "--optim.epochs", "0"]),
        ("mae_et", ["embed", "--checkpoint", "runs/none"]),
        ("mae_et", ["pretrain"]),
        ("mae_et", ["pretrain", "/not/there"]),
        ("mae_et", ["pretrain", "--config", "mae_vit_b_16", "--data.path", "tests", "--resume"]),
        ("mae_et", ["embed", "tests", "--checkpoint", "/not/there", "--out", "x.npy"]),
        ("mae_et", ["stats", "tests", "--data.path", "tests"]),
        ("finetune", ["tests", "--checkpoint", "none"]),
        ("finetune", ["tests", "--checkpoint", "./not_there"]),
        ("finetune", ["--config", "vit_b_16", "--optim.epochs", "x"]),
        ("finetune", ["predict", "--checkpoint", "x", "--data", "x", "--out", "x.txt"]),
    ],
)
def test_bad_options_are_the_only_line(package: str, arguments: list[str]) -> None:
    result = subprocess_run(["-m", package, *arguments])
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("package", ["mae_et", "finetune"])
def test_the_version(package: str) -> None:
    assert __version__ in subprocess_run(["-m", package, "--version"]).stdout


def test_nothing_is_printed_where_torch_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    finders = list(sys.meta_path)
    with first_line("hello"):
        assert sys.meta_path == finders
    assert capsys.readouterr().err == ""
