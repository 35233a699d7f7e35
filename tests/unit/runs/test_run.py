"""The folder of a run: which paths belong to it, and which checkpoints it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mae_et.runs import Checkpoint, Run


def test_a_run_is_found_from_its_own_paths_only(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    assert Run.of(run.folder) is None  # no configuration
    run.write_config({"a": 1})
    for path in (run.folder, run.checkpoint(7).folder, run.encoder, run.best, run.last):
        assert Run.of(path) == run
    for path in (tmp_path, run.checkpoint_folder, run.folder / "other", run.config_file):
        assert Run.of(path) is None
    assert run.read_config() == {"a": 1}


def test_checkpoints_are_those_with_a_whole_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("step_00000009", "step_00000010", "step_00000011.tmp", "step_8.damaged", "x"):
        (run.checkpoint_folder / name).mkdir(parents=True)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [9, 10]
    assert run.latest_checkpoint() == run.checkpoint(10)


def test_a_checkpoint_named_from_its_own_folder_knows_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path.resolve())
    run.write_config({})
    run.checkpoint(3).folder.mkdir(parents=True)
    monkeypatch.chdir(run.checkpoint_folder)
    checkpoint = Checkpoint.at(Path("step_00000003"))
    assert checkpoint is not None
    assert checkpoint.run_folder == Path(os.getcwd()).parent  # noqa: PTH109


def test_the_seal_finds_what_is_not_as_it_was_written(tmp_path: Path) -> None:
    checkpoint = Run(tmp_path).checkpoint(5)
    checkpoint.unfinished.mkdir(parents=True)
    (checkpoint.unfinished / "a").write_text("as written")
    checkpoint.seal()
    checkpoint.unfinished.rename(checkpoint.folder)
    checkpoint.verify()
    (checkpoint.folder / "a").write_text("As written")
    with pytest.raises(ValueError, match="a is not what was written"):
        checkpoint.verify()
    moved = Run(tmp_path).checkpoint(6)
    checkpoint.folder.rename(moved.folder)
    with pytest.raises(ValueError, match="is of step 5"):
        moved.verify()
