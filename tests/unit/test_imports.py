"""What is imported when: no torch to read a command line, no parser in workers, and by whom."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from mae_et import data
from mae_et.__main__ import COMMANDS
from mae_et.data import sources
from tests.support.launch import subprocess_run
from tests.support.workers import LoadedModules


@pytest.mark.parametrize(
    ("package", "arguments", "code"),
    [
        ("mae_et", ["--help"], 0),
        ("mae_et", ["recipes"], 0),
        *(("mae_et", [command, "--help"], 0) for command in COMMANDS),
        ("mae_et", ["pretrain", "--help_all"], 0),
        ("mae_et", ["pretrain", "--config", "nowhere"], 2),
        ("finetune", ["recipes"], 0),
        ("finetune", ["--help"], 0),
        ("finetune", ["predict", "--help"], 0),
        ("finetune", ["--config", "nowhere"], 2),
    ],
)
def test_command_lines_are_read_without_torch(
    package: str, arguments: list[str], code: int
) -> None:
    program = (
        f"import sys; from {package}.__main__ import main\n"
        f"try: code = main({arguments})\n"
        "except SystemExit as end: code = end.code  # of --help\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    result = subprocess_run(["-c", program])
    assert result.returncode == code, result.stderr


@pytest.mark.parametrize("module", ["mae_et.curriculum", "mae_et.errors", "mae_et.config"])
def test_leaves_are_imported_without_torch(module: str) -> None:
    result = subprocess_run(["-c", f"import {module}, sys; sys.exit('torch' in sys.modules)"])
    assert result.returncode == 0, result.stderr


def test_workers_import_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would wait for it, at every stage."""
    monkeypatch.setattr(sources, "own_modules", set())
    modules = LoadedModules(["jsonargparse", "mae_et.config.parser", "mae_et.data"])
    (found,) = DataLoader(modules, batch_size=None, **data.worker_options(1))
    assert found == [False, False, True]


def test_packages_keep_to_their_contracts() -> None:
    """Those of pyproject.toml: who may import whom."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess_run(["-c", command, "--no-cache"])
    assert result.returncode == 0, result.stdout
