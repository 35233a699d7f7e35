"""Imports point one way: leaves import nothing of the project, and there are no cycles."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = ("lowfreq", "masking", "pos_embed", "targets", "decoder", "curriculum", "checks")


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of both packages."""
    files = [f for package in ("mae_et", "finetune") for f in (ROOT / package).rglob("*.py")]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


def imported(name: str) -> set[str]:
    """The project's modules that a module imports, anywhere in its code."""
    file = modules()[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                found.add(submodule if submodule in modules() else source)
    return {target for target in found if target.split(".")[0] in ("mae_et", "finetune")}


def test_the_parser_sees_the_imports():
    assert {"mae_et.masking", "mae_et.pos_embed"} <= imported("mae_et.model")
    assert "mae_et.pretrain" in imported("mae_et.__main__")  # inside a function
    assert "mae_et.data" in imported("mae_et.pretrain")  # from . import data
    assert "mae_et.vit" in imported("finetune.classifier")


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_of_the_project(leaf):
    assert imported(f"mae_et.{leaf}") == set()


def test_the_curriculum_needs_no_torch():
    tree = ast.parse(modules()["mae_et.curriculum"].read_text())
    names = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names <= {"__future__", "bisect", "collections.abc", "dataclasses", "itertools", "math"}


def test_help_and_the_curriculum_import_no_torch():
    code = "import sys, mae_et; mae_et.Curriculum; from {}.__main__ import main; main({})"
    code += "; sys.exit('torch' in sys.modules)"
    for package in ("mae_et", "finetune"):
        for arguments in (["recipes"], ["pretrain", "--config", "nowhere"]):
            command = [sys.executable, "-c", code.format(package, arguments)]
            subprocess.run(command, check=True, cwd=ROOT)


def test_config_imports_only_the_curriculum():
    leaves = {"mae_et.checks", "mae_et.curriculum"}
    sections = {"mae_et.curriculum_config", "mae_et.data_config"}
    assert all(imported(section) <= leaves for section in sections)
    assert imported("mae_et.config") <= leaves | sections


def test_model_imports_only_leaves():
    assert imported("mae_et.model") <= {f"mae_et.{name}" for name in (*LEAVES, "vit")}
    assert imported("mae_et.vit") == {"mae_et.curriculum"}


def test_pretraining_never_imports_finetuning():
    for name in modules():
        if name.split(".")[0] == "mae_et":
            assert not {t for t in imported(name) if t.split(".")[0] == "finetune"}, name


@pytest.mark.parametrize("package", ["mae_et", "finetune"])
def test_no_cycles(package):
    graph = {name: imported(name) for name in modules() if name.split(".")[0] == package}
    TopologicalSorter(graph).prepare()  # CycleError names the modules
