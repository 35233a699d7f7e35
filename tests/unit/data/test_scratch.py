"""Temporary files: deleted with their process, or by the next one if it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mae_et.data import scratch
from tests.support.launch import subprocess_run
from tests.support.paths import ROOT

MAKE = "from mae_et.data.scratch import scratch_file; scratch_file('rows').write_text('x')"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """The folder for temporary files of processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def start(parent: Path) -> subprocess.Popen[str]:
    """Start a process that has temporary files, and wait until it has."""
    command = [sys.executable, "-c", f"{MAKE}; print('made', flush=True); input()"]
    environment = {**os.environ, "TMPDIR": str(parent)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def folders(parent: Path) -> set[Path]:
    return set(parent.glob(f"{scratch.PREFIX}*"))


def make(parent: Path) -> None:
    result = subprocess_run(["-c", MAKE], TMPDIR=str(parent))
    assert result.returncode == 0, result.stderr


def test_what_a_killed_process_leaves_is_deleted_by_the_next(parent: Path) -> None:
    with start(parent) as alive, start(parent) as killed:
        both = folders(parent)
        assert len(both) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert folders(parent) == both
        make(parent)
        (kept,) = folders(parent)
        assert len(list(kept.glob("*/rows"))) == 1
        alive.communicate("\n")
    assert folders(parent) == set()


def test_folders_of_others_stay(parent: Path, tmp_path: Path) -> None:
    """Those without a lock, which may be of another version, and links to elsewhere."""
    unlocked = parent / f"{scratch.PREFIX}old"
    unlocked.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / scratch.LOCK).touch()
    link = parent / f"{scratch.PREFIX}link"
    link.symlink_to(elsewhere)
    make(parent)
    assert folders(parent) == {unlocked, link}
    assert (elsewhere / scratch.LOCK).exists()
