"""Completion of command lines, in a real shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main as mae_et_main
from mae_et.config import completion
from mae_et.config.parser import recipe_names

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
function=$(complete -p "$1"); function=${function#*-F }; ${function%% *}
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does at the last of the words of a command line."""


@pytest.fixture
def scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Path]:
    """The scripts of both programs, as they are printed."""
    pytest.importorskip("shtab")
    found = {}
    for program, main in (("mae-et", mae_et_main), ("mae-et-finetune", finetune_main)):
        assert main(["--print_completion", "bash"]) == 0
        found[program] = tmp_path / program
        found[program].write_text(capsys.readouterr().out)
    return found


def completed(scripts: dict[str, Path], line: str) -> list[str]:
    words = line.split(" ")
    script = str(scripts[words[0]])
    command = ["bash", "-c", COMPLETE, "bash", script, *words]
    result = subprocess.run(command, capture_output=True, text=True, cwd=scripts["mae-et"].parent)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.skipif(sys.platform == "darwin", reason="its bash is of 2007")
def test_bash_completes(scripts: dict[str, Path]) -> None:
    assert completed(scripts, "mae-et re") == ["reconstruct", "report", "recipes"]
    assert completed(scripts, "mae-et pretrain --optim.ep") == ["--optim.epochs"]
    assert completed(scripts, "mae-et pretrain --curriculum.name eff") == [
        "efficienttrain",
        "efficienttrain_plus",
    ]
    assert completed(scripts, "mae-et embed --pool m") == ["map"]
    mine = [name for name in recipe_names("mae_et") if name.startswith("et_")]
    assert len(mine) > 1
    assert completed(scripts, "mae-et plan --config et_") == mine
    theirs = [name for name in recipe_names("finetune") if name.startswith("vit_")]
    assert completed(scripts, "mae-et-finetune --config vit_") == theirs
    assert completed(scripts, "mae-et-finetune predict --check") == ["--checkpoint"]
    assert completed(scripts, "mae-et plan --config ./mae-et-f") == ["./mae-et-finetune"]


@pytest.mark.parametrize("shell", [[], ["fish"]])
def test_an_unknown_shell_is_named(shell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert mae_et_main(["--print_completion", *shell]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --print_completion must be one of bash, zsh, tcsh, got ")
    assert len(error.splitlines()) == 1


def test_without_shtab_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completion, "is_installed", lambda _: False)
    assert mae_et_main(["--print_completion", "bash"]) == 2
    assert "pip install -e '.[completion]'" in capsys.readouterr().err
