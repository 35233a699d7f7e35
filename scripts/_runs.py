"""Runs of the studies: each in a process of its own, continued where it was stopped."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import timm
import torch

ROOT = Path(__file__).parent.parent


def run(module: str, folder: Path, *arguments: str, **fields: object) -> None:
    """Run a command with its output folder; its output is shown if it fails.

    Args:
        module: mae_et or finetune.
        folder: run.output_dir; a run that was begun there is gone on with.
        arguments: before the fields.
        fields: options, with two underscores for a dot.
    """
    options = [f"--{name.replace('__', '.')}={value}" for name, value in fields.items()]
    options += [f"--run.output_dir={folder}", "--run.progress=false"]
    resume = ["--resume"] if (folder / "config.yaml").exists() else []
    command = [sys.executable, "-m", module, *arguments, *options, *resume]
    print(" ".join(command[2:]), flush=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "scripts")}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        sys.exit(result.stdout + result.stderr)


def facts() -> dict[str, Any]:
    """Versions, machine, date and command, for a results file."""
    return {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
