"""What is installed, and what only has the name of it; what an error prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_et.config import RunConfig
from mae_et.errors import is_installed, run_command
from mae_et.training import make_accelerator


def test_an_empty_folder_is_no_installed_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_one").mkdir()
    (tmp_path / "file_one.py").touch()
    (tmp_path / "package_one").mkdir()
    (tmp_path / "package_one" / "__init__.py").touch()
    (tmp_path / "torch").mkdir()  # the installed one comes first nevertheless
    monkeypatch.syspath_prepend(tmp_path)
    names = ("empty_one", "file_one", "package_one", "torch", "absent_one", "sys")
    assert [is_installed(name) for name in names] == [False, True, True, True, False, True]


def test_a_folder_called_tensorboard_is_no_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without a tracker's name goes on without one; one that names it is told."""
    (tmp_path / "tensorboard").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])  # as if nothing else were installed
    monkeypatch.delitem(__import__("sys").modules, "tensorboard", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert make_accelerator(RunConfig(tracker="auto")).log_with == []
    with pytest.raises(ValueError, match=r"run\.tracker must be auto, none or an installed one"):
        make_accelerator(RunConfig(tracker="tensorboard"))


@pytest.mark.parametrize(
    ("rank", "world", "is_said"),
    [(None, None, True), ("3", None, True), ("3", "1", True), ("0", "2", True), ("1", "2", False)],
)
def test_a_stray_rank_hides_no_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str | None,
    world: str | None,
    is_said: bool,
) -> None:
    """Of several processes, the first one alone says it."""
    for name, value in {"RANK": rank, "WORLD_SIZE": world}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    def command() -> None:
        raise ValueError("data.path must exist")

    assert run_command(command) == 2
    assert capsys.readouterr().err == ("error: data.path must exist\n" if is_said else "")


@pytest.mark.parametrize(
    ("notes", "said"),
    [([], "interrupted\n"), (["--resume continues"], "interrupted; --resume continues\n")],
)
def test_an_interruption_promises_nothing(
    capsys: pytest.CaptureFixture[str], notes: list[str], said: str
) -> None:
    """What a run can promise, it adds to the error."""

    def command() -> None:
        error = KeyboardInterrupt()
        for note in notes:
            error.add_note(note)
        raise error

    assert run_command(command) == 130
    assert capsys.readouterr().err == said
