"""The folder of a run: locked while in use, its configuration, and what is written while it runs.

RUN/config.yaml        the resolved configuration
RUN/metrics.jsonl      a line per log step and per evaluation
RUN/bad_images.txt     images that could not be decoded: name, tab, reason
RUN/checkpoints/       see `mae_et.training.checkpoint`
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import broadcast_object_list

from ..config import Resume, changed_fields, to_dict
from ..errors import RunInterruptedError
from ..runs import read_config, read_metrics, remove_unfinished, sound_checkpoint
from .launch import main_process_first

log = logging.getLogger(__name__)


class RunFolder:
    """A run's folder, opened by every process and, while it is open, locked by the main one.

    Args:
        path: the folder; made if need be.
        config: the resolved configuration, as plain dicts; see `describe_run`.
        kind: its dataclass.
        resume: whether to go on with the run that the folder holds; auto: if it holds one.
        accelerator: of this process.

    Raises:
        ValueError: another process uses the folder, it holds a run and `resume` is not asked for,
            it holds none and it is, the run it holds has another configuration, or its
            checkpoints are all damaged.
    """

    def __init__(
        self,
        path: str,
        config: Mapping[str, Any],
        kind: type,
        resume: Resume,
        accelerator: Accelerator,
    ) -> None:
        self.path = Path(path)
        self.accelerator = accelerator
        # What the launcher decided is part of the configuration.
        run = {**config["run"], "mixed_precision": accelerator.mixed_precision}
        config = {**config, "run": run}
        self.trackers: list[GeneralTracker] = []  # get the metrics too
        self._unwritten: dict[str, str] = {}
        self.checkpoint: Path | None = None
        main_process_first(accelerator, lambda: self._open(config, kind, resume))
        checkpoint = [self.checkpoint]
        broadcast_object_list(checkpoint)  # one process reads them all
        (self.checkpoint,) = checkpoint

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind in (None, RunInterruptedError):  # a tracker tells a crash by not being closed
            self._track(lambda tracker: tracker.finish())
        if self.accelerator.is_main_process:
            self._lock.close()

    def _open(self, config: Mapping[str, Any], kind: type, resume: Resume) -> None:
        if self.accelerator.is_main_process:
            holds_run = (self.path / "config.yaml").exists()
            if resume is True and not holds_run:
                raise ValueError(f"--resume needs a run in run.output_dir, got none in {self.path}")
            goes_on = bool(resume) and holds_run
            self._lock = _lock(self.path)
            try:
                if goes_on:
                    self._check_resume(config, kind)
                    self.checkpoint = sound_checkpoint(self.path)
                    self._forget_later_metrics()
                else:
                    self._check_new()
            except ValueError:
                self._lock.close()
                raise
            remove_unfinished(self.path)
            if not goes_on:
                unfinished = self.path / "config.yaml.tmp"
                unfinished.write_text(yaml.safe_dump(dict(config), sort_keys=False))
                unfinished.rename(self.path / "config.yaml")

    def _check_new(self) -> None:
        names = ("config.yaml", "metrics.jsonl", "bad_images.txt", "checkpoints")
        if any((self.path / name).exists() for name in names):
            raise ValueError(
                f"run.output_dir must be new, got {self.path}, which holds a run; "
                "add --resume to go on with it"
            )

    def _check_resume(self, config: Mapping[str, Any], kind: type) -> None:
        changed = changed_fields(read_config(self.path), config, kind)
        if changed:
            raise ValueError(
                f"--resume needs the configuration of the run; changed: {', '.join(changed)}"
            )

    def _forget_later_metrics(self) -> None:
        """Drop cut lines, and those of steps that are taken again, maybe otherwise on a GPU."""
        step = int(self.checkpoint.name.removeprefix("step_")) if self.checkpoint else 0
        lines = read_metrics(self.path)
        kept = [json.dumps(line) for line in lines if line["step"] <= step]
        file = self.path / "metrics.jsonl"
        text = file.read_text() if file.exists() else "\n"
        if [line for line in text.split("\n") if line] != kept or not text.endswith("\n"):
            unfinished = self.path / "metrics.tmp"
            unfinished.write_text("".join(line + "\n" for line in kept))
            unfinished.replace(file)

    def write_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append a line to metrics.jsonl, and hand the numbers to the trackers."""
        if self.accelerator.is_main_process:
            line = {"step": step, "time": round(time.time(), 3), **metrics}
            line = {  # JSON has no NaN
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in line.items()
            }
            self._append("metrics.jsonl", json.dumps(line) + "\n")
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self._track(lambda tracker: tracker.log(numbers, step=step))

    def _track(self, work: Callable[[GeneralTracker], object]) -> None:
        """Do something with each tracker; one that fails (a full disk) is given up."""
        for tracker in list(self.trackers):
            try:
                work(tracker)
            except OSError as error:
                log.warning("tracker %s failed (%s); the run goes on without", tracker.name, error)
                self.trackers.remove(tracker)

    def write_bad_images(self, reasons: Mapping[str, str]) -> None:
        """Append names of unreadable images, and why."""
        if self.accelerator.is_main_process and reasons:
            lines = (f"{name}\t{reason}\n" for name, reason in reasons.items())
            self._append("bad_images.txt", "".join(lines))

    def read_bad_images(self) -> dict[str, str]:
        """The names of unreadable images, and why; the same in every process."""
        file, lines = self.path / "bad_images.txt", list[str]()
        if self.accelerator.is_main_process and file.exists():
            lines = file.read_text().splitlines()
        shared = [lines]
        broadcast_object_list(shared)
        parts = (line.partition("\t") for line in shared[0] if line)
        return {name: reason for name, _, reason in parts}

    def _append(self, name: str, text: str) -> None:
        """Append to a file; if it can't be done (a full disk), it is tried again the next time."""
        text = self._unwritten.get(name, "") + text
        try:
            with (self.path / name).open("a") as file:
                file.write(text)
        except OSError as error:
            if name not in self._unwritten:
                log.warning("%s can't be written (%s); its lines wait", self.path / name, error)
            self._unwritten[name] = "\n" + text.removeprefix("\n")  # behind what may have been cut
        else:
            self._unwritten.pop(name, None)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """
    Raises:
        ValueError: for an error of writing to a run's folder.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"run.output_dir must be a folder to write in, got {path} ({error})"
        ) from error


def _lock(path: Path) -> IO[str]:
    """Lock a folder until the returned file is closed, at the latest by the end of the process.

    A record lock: loader processes do not inherit it, and a killed run leaves none.
    """
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            return file
        file.close()
        raise ValueError(
            f"run.output_dir must be free, got {path}, in use by another run"
        ) from None
    return file


def describe_run(config: object, train_images: Sized, eval_images: Sized) -> dict[str, Any]:
    """What a run has to go on with: its configuration, and how many images there are."""
    return to_dict(config) | {"images": {"train": len(train_images), "eval": len(eval_images)}}
