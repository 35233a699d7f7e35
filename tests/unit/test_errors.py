"""What is installed, and what only has the name of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_et.config import RunConfig
from mae_et.errors import is_installed
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
