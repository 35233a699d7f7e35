"""The folder of a run while it trains, locked and written to; `mae_et.runs.Run` has its files.

Write errors from a full disk cost some lines for a while, not the run.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import broadcast_object_list

from ..config import Resume, TrainingConfig, changed_fields, read_text, to_dict
from ..data import local_folder
from ..errors import RunInterruptedError, RunReplannedError
from ..runs import Checkpoint, Run, lock, write_text
from .images import RunImages
from .launch import main_process_first

log = logging.getLogger(__name__)

MOST_BYTES = 2**30
"""The most bytes of a run's text files, which are read when it resumes."""


class RunFolder:
    """The folder of a run, opened by every process and, while it is open, locked by the main one.

    Args:
        config: The run; its folder is created if necessary.
        images: The images of the run, whose counts are part of what it resumes from.
        resume: Whether to resume the run that the folder holds; "auto" to do so if it holds one.
        accelerator: The accelerator of this process.

    Raises:
        ValueError: Another process uses the folder, the folder holds a run and `resume` is not
            set, it holds none and `resume` is true, its run has a different configuration, or all
            checkpoints of that run are damaged.
    """

    def __init__(
        self, config: TrainingConfig, images: RunImages, resume: Resume, accelerator: Accelerator
    ) -> None:
        self.files = Run(Path(config.run.output_dir))
        self.accelerator = accelerator
        self.trackers: list[GeneralTracker] = []  # these get the metrics too
        self._unwritten: dict[Path, str] = {}
        self.checkpoint: Checkpoint | None = None
        main_process_first(accelerator, lambda: self._open(config, images, resume))
        checkpoint = [self.checkpoint]
        broadcast_object_list(checkpoint)  # only one process reads them
        (self.checkpoint,) = checkpoint

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if isinstance(error, KeyboardInterrupt) and self.files.latest_checkpoint() is not None:
            error.add_note("--resume continues from the last checkpoint")
        # A tracker shows a crash by being left unclosed.
        if kind in (None, RunInterruptedError, RunReplannedError):
            self._track(lambda tracker: tracker.finish())
        if self.accelerator.is_main_process:
            self._lock.close()

    def _open(self, config: TrainingConfig, images: RunImages, resume: Resume) -> None:
        if not self.accelerator.is_main_process:
            return
        files = self.files
        described = _describe(config, images, self.accelerator)
        files.check_start(resume)
        is_resumed = bool(resume) and files.exists
        check_apart(files.folder, described, is_resumed=is_resumed)
        files.check_links()
        with writing_to(files.folder):
            files.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(files.lock_file, "run.output_dir")
        try:
            if is_resumed:
                _check_classes(files.read_classes(), images.class_names)
                self._check_resume(described, type(config))
                self.checkpoint = files.sound_checkpoint()
                self._forget_later_metrics()
            else:
                files.check_new()  # now that no other process can begin one
        except ValueError:
            self._lock.close()
            raise
        files.remove_unfinished()
        knows_images = (
            is_resumed
            and described["images"].keys() <= files.read_config().get("images", {}).keys()
        )
        if not knows_images or config.data.allow_changed:  # runs of older versions do not
            files.write_config(described)
        if images.class_names and not files.classes_file.exists():
            files.write_classes(images.class_names)

    def _check_resume(self, config: Mapping[str, Any], kind: type) -> None:
        written = self.files.read_config()
        _check_images(written.get("images", {}), config["images"], config["data"]["allow_changed"])
        changed = changed_fields(written | {"images": config["images"]}, config, kind)
        if changed:
            raise ValueError(
                f"--resume needs the configuration of the run; changed: {', '.join(changed)}"
            )

    def _forget_later_metrics(self) -> None:
        """Drop truncated lines, and lines of steps to be repeated (on a GPU, maybe not alike)."""
        step = self.checkpoint.step if self.checkpoint else 0
        lines = self.files.read_metrics()
        kept = [json.dumps(line) for line in lines if line["step"] <= step]
        file = self.files.metrics_file
        text = read_text(file, most=MOST_BYTES) if file.exists() else "\n"
        if [line for line in text.split("\n") if line] != kept or not text.endswith("\n"):
            write_text(file, "".join(line + "\n" for line in kept))

    def replan(self, done: int, num_steps: int) -> None:
        """Record that the run takes another number of steps in all, from `done` on."""
        if self.accelerator.is_main_process:
            config = self.files.read_config()
            before = config["run"].get("replanned", ())
            config["run"]["replanned"] = [*before, [done, num_steps]]
            self.files.write_config(config)

    def seconds_before(self) -> float:
        """Return the time that the run's steps took before it was resumed; 0 in other processes."""
        if not self.accelerator.is_main_process:
            return 0.0
        return sum(float(line.get("seconds", 0.0)) for line in self.files.read_metrics())

    def write_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append a line to the metrics, and log the numbers with the trackers."""
        if self.accelerator.is_main_process:
            line = {"step": step, "time": round(time.time(), 3), **metrics}
            line = {  # JSON has no NaN
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in line.items()
            }
            self._append(self.files.metrics_file, json.dumps(line) + "\n")
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self._track(lambda tracker: tracker.log(numbers, step=step))

    def _track(self, work: Callable[[GeneralTracker], object]) -> None:
        """Call `work` with each tracker; drop one that fails (on a full disk)."""
        for tracker in list(self.trackers):
            try:
                work(tracker)
            except OSError as error:
                log.warning(
                    "tracker %s failed (%s); the run continues without", tracker.name, error
                )
                self.trackers.remove(tracker)

    def write_bad_images(self, reasons: Mapping[str, str]) -> None:
        """Append the names of unreadable images, each with its reason."""
        if self.accelerator.is_main_process and reasons:
            lines = (f"{name}\t{reason}\n" for name, reason in reasons.items())
            self._append(self.files.bad_images_file, "".join(lines))

    def read_bad_images(self) -> dict[str, str]:
        """Return the reason for each unreadable image by its name, the same in every process."""
        file, lines = self.files.bad_images_file, list[str]()
        if self.accelerator.is_main_process and file.exists():
            lines = read_text(file, most=MOST_BYTES).splitlines()
        shared = [lines]
        broadcast_object_list(shared)
        parts = (line.partition("\t") for line in shared[0] if line)
        return {name: reason for name, _, reason in parts}

    def _append(self, file: Path, text: str) -> None:
        """Append to a file; if that fails (on a full disk), try again the next time."""
        text = self._unwritten.get(file, "") + text
        try:
            with file.open("a") as opened:
                opened.write(text)
        except OSError as error:
            if file not in self._unwritten:
                log.warning("%s can't be written (%s); its lines wait", file, error)
            self._unwritten[file] = "\n" + text.removeprefix("\n")  # after a truncated line
        else:
            self._unwritten.pop(file, None)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Report errors in writing to a run's folder in one line.

    Args:
        path: The folder.

    Raises:
        ValueError: Writing failed.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"run.output_dir must be a folder to write in, got {path} ({error})"
        ) from error


def check_apart(folder: Path, config: Mapping[str, Any], *, is_resumed: bool = False) -> None:
    """Check that a run does not write among its data; a warning says so if it writes below them.

    Args:
        folder: The folder of the run.
        config: Its configuration.
        is_resumed: Whether the run is there already; then there is only a warning.

    Raises:
        ValueError: The folder is one of the data.
    """
    source, elsewhere = config["data"], config.get("eval") or {}
    sources = [source, elsewhere, *(source.get("sources") or ())]
    out = folder.resolve()
    for path in {one["path"]: None for one in sources if one.get("path")}:
        data = local_folder(path)
        if data == out and not is_resumed:
            raise ValueError(f"run.output_dir must not be the folder of the data, got {folder}")
        if data in (out, *out.parents):
            log.warning(
                "run.output_dir %s lies in the data %s, which had better hold nothing else",
                folder,
                path,
            )


def _describe(
    config: TrainingConfig, images: RunImages, accelerator: Accelerator
) -> dict[str, Any]:
    """Return what a run resumes from: its configuration, and how many images there are."""
    described = to_dict(config)
    # What the launcher decided is part of the configuration.
    described["run"]["mixed_precision"] = accelerator.mixed_precision
    known = {"train": len(images.train), "eval": len(images.held_out), "digest": images.digest()}
    if (labels := images.held_out_digest()) is not None:
        known["eval_labels"] = labels
    return described | {"images": known}


def _check_classes(old: Sequence[str] | None, new: Sequence[str]) -> None:
    """Check that a run's head still has the classes that it began with, in their order.

    Raises:
        ValueError: It has others.
    """
    if old is None or list(old) == list(new):
        return
    gone, added = [name for name in old if name not in new], [n for n in new if n not in old]
    changes = [f"without {_few(gone)}"] * bool(gone) + [f"with {_few(added)}"] * bool(added)
    raise ValueError(
        f"--resume needs the classes of the run, got them {' and '.join(changes) or 'reordered'}; "
        "its head has an output for each, in order"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_images(old: Mapping[str, Any], new: Mapping[str, Any], allow_changed: bool) -> None:
    """Check that a run's images are those that it began with, as far as it has recorded that.

    Raises:
        ValueError: They are not, and `allow_changed` is false; else a warning says so.
    """
    old = {**new, **old}
    changed = [
        f"{new[name]:,} images to {purpose}, were {old[name]:,}"
        for name, purpose in (("train", "train on"), ("eval", "evaluate on"))
        if old[name] != new[name]
    ]
    if not changed:
        was, now = (str(known["digest"]).split("-") for known in (old, new))
        others = {
            "names or sizes of images": was[:2] != now[:2],
            "labels of the images to train on": was[2:] != now[2:],
            "labels of the images to evaluate on": old.get("eval_labels") != new.get("eval_labels"),
        }
        changed = [f"other {what}" for what, differ in others.items() if differ]
    if changed and not allow_changed:
        raise ValueError(
            f"--resume needs the data of the run, got {' and '.join(changed)}; "
            "--data.allow_changed true resumes with them"
        )
    if changed:
        log.warning("the data have changed since the run began: %s", " and ".join(changed))
