"""Runs of the studies: each in a process of its own, continued where it was stopped."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import timm
import torch

from finetune.config import FinetuneConfig
from mae_et.config.fields import changed_fields, to_dict
from mae_et.config.parser import config_parser, parse
from mae_et.config.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2]
CONFIGS = {"mae_et": PretrainConfig, "finetune": FinetuneConfig}


def run(module: str, folder: Path, *arguments: str, **fields: object) -> None:
    """Run a command with its output folder; its output is shown if it fails.

    Args:
        module: mae_et or finetune.
        folder: run.output_dir; a run that was begun there is gone on with.
        arguments: before the fields.
        fields: options, with two underscores for a dot.
    """
    options = [*_options(fields), f"--run.output_dir={folder}", "--run.progress=false"]
    if (folder / "config.yaml").exists():
        options.append("--resume")
        with (folder / ".lock").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # held by what a killed study left running: it ends
    execute([module, *arguments, *options])


def execute(command: Sequence[str]) -> None:
    """Run a module with its arguments.

    If this process is stopped (Ctrl-C), the run is asked to stop as well, and saves a checkpoint.
    """
    print(" ".join(command), flush=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "scripts")}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would break, were this process killed
        with subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # else the terminal signals it too
        ) as process:
            try:
                process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode:
            output.seek(0)
            sys.exit(output.read())


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run comes to: read from its folder once, and then from its record.

    Args:
        record: JSON file of the result, with the configuration that it belongs to.
        module: mae_et or finetune.
        folder: of the run.
        arguments: before the fields.
        fields: options, with two underscores for a dot.
        inputs: what else the result depends on.
        read: the result, from the folder of a run that is complete.
    """

    record: Path
    module: str
    folder: Path
    arguments: tuple[str, ...] = ()
    fields: Mapping[str, object]
    inputs: Mapping[str, object] = field(default_factory=dict)
    read: Callable[[Path], Any]

    def saved(self) -> Any | None:
        """The result on record; None if there is none.

        Raises:
            ValueError: it is that of another configuration.
        """
        if not self.record.exists():
            return None
        saved = json.loads(self.record.read_text())
        changed = changed_fields(saved["config"], self._config(), CONFIGS[self.module])
        if changed:
            raise ValueError(
                f"{self.record} must hold the result of the run that is wanted; changed: "
                f"{', '.join(changed)}. Remove it and {self.folder}, or choose another --out"
            )
        return saved["result"]

    def result(self) -> Any:
        """The result, after a run if need be."""
        saved = self.saved()
        if saved is not None:
            return saved
        run(self.module, self.folder, *self.arguments, "--config=demo", **self.fields)
        result = self.read(self.folder)
        write_json(self.record, {"config": self._config(), "result": result})
        return result

    def _config(self) -> dict[str, Any]:
        """The configuration, with what a recipe and the defaults make of the fields."""
        config_type = CONFIGS[self.module]
        options = ["--config=demo", *_options(self.fields)]
        parser = config_parser(config_type, self.module, "")
        config, _ = parse(parser, config_type, options, self.module)
        return to_dict(config) | {"inputs": dict(self.inputs)}


def _options(fields: Mapping[str, object]) -> list[str]:
    return [f"--{name.replace('__', '.')}={value}" for name, value in fields.items()]


def write_json(file: Path, content: object) -> None:
    """Write a file that is never seen half written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")  # not that of another process
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(file)


def facts() -> dict[str, Any]:
    """Versions, machine, date and command, for a results file."""
    return {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
