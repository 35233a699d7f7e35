"""A cache that cannot be written to is blamed by name, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets.exceptions import DatasetGenerationError

from mae_et.data.problems import problem_of
from tests.support.paths import ROOT

READ_ONLY = """
mount --bind "$HF_HOME" "$HF_HOME" && mount -o remount,ro,bind "$HF_HOME" && exec "$0" -m mae_et \
stats --data.path "$1" --in_chans 1
"""


def test_a_read_only_cache_names_hf_home(clothes: str, tmp_path: Path) -> None:
    """Although it holds the data set already."""
    if subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"]).returncode:
        pytest.skip("may not mount here")
    environment = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    options = ["-m", "mae_et", "stats", "--data.path", clothes, "--in_chans", "1"]
    ran = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        for command in (
            [sys.executable, *options],
            ["unshare", "-m", "bash", "-c", READ_ONLY, sys.executable, clothes],
        )
    ]
    assert [process.returncode for process in ran] == [0, 2], ran
    (line,) = ran[1].stderr.splitlines()
    assert line.startswith(
        f"error: data.path '{clothes}' needs the cache of `datasets`, {tmp_path}"
    )
    assert line.endswith("(Read-only file system): set HF_HOME to a folder that can be")


@pytest.mark.parametrize(
    ("number", "is_cached", "is_blamed"),
    [(30, True, True), (13, True, True), (28, True, True), (13, False, False), (2, True, False)],
)
def test_only_a_cache_is_blamed_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_cached: bool, is_blamed: bool
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    folder = tmp_path / "datasets" if is_cached else Path("/elsewhere")
    outer = DatasetGenerationError("An error occurred while generating the dataset")
    outer.__cause__ = OSError(number, "why", str(folder / "file.lock"))
    assert problem_of(outer).endswith("(why): set HF_HOME to a folder that can be") is is_blamed
    assert "An error occurred" not in problem_of(outer)
