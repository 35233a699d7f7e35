"""Run the studies, each run in its own process, resumed where it was stopped."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch

from finetune.config import FinetuneConfig
from mae_et.config import PretrainConfig, changed_fields, to_dict
from mae_et.config.parser import config_parser, parse
from mae_et.runs import Run

Unit = TypeVar("Unit")

WAIT = 10.0
"""Seconds until the next look at what other commands have left."""

ROOT = Path(__file__).parents[2]
"""The root of the repository, where runs start."""

CONFIGS: dict[str, type[Any]] = {"mae_et": PretrainConfig, "finetune": FinetuneConfig}
"""Module -> the type of its configuration."""


def run(module: str, folder: Path, *arguments: str, **fields: object) -> None:
    """Run a command with its output folder; its output is shown if it fails.

    Args:
        module: Package to run: mae_et or finetune.
        folder: The run's `run.output_dir`; a run that was started there is resumed.
        arguments: Arguments before the fields.
        fields: Options, with two underscores in place of a dot.
    """
    options = [*_options(fields), f"--run.output_dir={folder}", "--run.progress=false"]
    if Run(folder).exists:
        options.append("--resume")
        with (folder / ".lock").open("a") as lock:
            # A killed study may have left a run behind, which holds the lock until it ends.
            fcntl.lockf(lock, fcntl.LOCK_EX)
    execute([module, *arguments, *options])


def execute(command: Sequence[str]) -> None:
    """Run a module with its arguments.

    If this process is interrupted (Ctrl-C), so is the run, which then saves a checkpoint.
    """
    print(" ".join(command), flush=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "scripts")}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would break if this process were killed
        with subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # otherwise the terminal signals it too
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
    """The result of one run: read from its folder once, and from its record after that.

    Args:
        record: JSON file of the result and the configuration that it belongs to.
        module: Package to run: mae_et or finetune.
        folder: Folder of the run.
        arguments: Arguments before the fields.
        fields: Options, with two underscores in place of a dot.
        inputs: What else the result depends on.
        read: Returns the result, given the folder of a complete run.
    """

    record: Path
    module: str
    folder: Path
    arguments: tuple[str, ...] = ()
    fields: Mapping[str, object]
    inputs: Mapping[str, object] = field(default_factory=dict)
    read: Callable[[Path], Any]

    def saved(self) -> Any | None:
        """Return the recorded result; None if there is none.

        Raises:
            ValueError: The result is of a different configuration.
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
        """Return the result, which takes a run unless it is recorded.

        Raises:
            ValueError: The recorded result is of a different configuration.
        """
        saved = self.saved()
        if saved is not None:
            return saved
        run(self.module, self.folder, *self.arguments, "--config=demo", **self.fields)
        result = self.read(self.folder)
        write_json(self.record, {"config": self._config(), "result": result})
        return result

    def _config(self) -> dict[str, Any]:
        """Return the whole configuration: the fields, the recipe's and the defaults."""
        return to_dict(configuration(self.module, self.fields)) | {"inputs": dict(self.inputs)}


def configuration(module: str, fields: Mapping[str, object]) -> Any:
    """Return the configuration of a run of the recipe demo with fields of its own.

    Args:
        module: Package to run: mae_et or finetune.
        fields: Options, with two underscores in place of a dot.
    """
    parser = config_parser(CONFIGS[module], module, "")
    return parse(parser, CONFIGS[module], ["--config=demo", *_options(fields)], module)[0]


def dotted(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields by the names of their options: a dot in place of two underscores."""
    return {name.replace("__", "."): value for name, value in fields.items()}


def _options(fields: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in dotted(fields).items()]


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Claim a folder, which is made, and say whether no other command has it.

    A claim ends with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def share(wanted: Callable[[], Sequence[Unit]], complete: Callable[[Unit], bool]) -> None:
    """Complete what is wanted, side by side with other commands, or wait for what they are at.

    Args:
        wanted: Returns what is still to be completed, in order; nothing ends the work.
        complete: Completes one, unless another command is at it, and returns whether it did.
    """
    while units := wanted():
        if not any(complete(unit) for unit in units):
            time.sleep(WAIT)


def write_json(file: Path, content: object) -> None:
    """Write a JSON file, in a new folder if necessary, that is never seen half-written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")  # unlike that of any other process
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(file)


def facts() -> dict[str, Any]:
    """Return the date, command, versions and machine, for a results file."""
    return {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
