"""The training loop of pretraining and fine-tuning: steps, logs, evaluations and checkpoints.

Read `Loop.train` first; the methods follow in the order in which it calls them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from accelerate.utils import broadcast_object_list

from ..config import TrainingConfig
from ..curriculum import Curriculum, Size
from ..data import StreamedSamples, warn_of_range, warn_of_size
from ..errors import RunInterruptedError, RunReplannedError, RunStoppedError
from .bad_images import BadImages
from .checkpoint import load_checkpoint, save_checkpoint, save_state_beside, try_saving
from .compile import num_graphs
from .images import Chunks, RunImages
from .interrupt import Interrupt
from .launch import start_trackers
from .metrics import Meter
from .outlook import REPLANS, Deadline, Outlook
from .progress import Progress
from .run_folder import RunFolder
from .trainer import Trainer, is_due

log = logging.getLogger(__name__)


class Loop:
    """Runs the steps of a schedule, from the run's checkpoint or from the start.

    Building it starts the trackers and restores the checkpoint.

    Args:
        trainer: The trainer, which takes the steps.
        images: The images of the run.
        run: The open run folder.
        interrupt: Notes the signals that ask the run to stop; None to make one for this run.
        stop: The step before which to end, without writing what was learned; None for the end of
            the schedule.
        began: When the hours of `run.hours` began, by `time.monotonic`; None for now.
        planned: Seconds of a step at each size, as far as they were measured before.

    Raises:
        ValueError: The checkpoint does not fit.
        RunStoppedError: No checkpoint can be saved.
    """

    def __init__(
        self,
        trainer: Trainer[Any, Any],
        images: RunImages,
        run: RunFolder,
        *,
        interrupt: Interrupt | None = None,
        stop: int | None = None,
        began: float | None = None,
        planned: Mapping[Size, float] | None = None,
    ) -> None:
        config: TrainingConfig = trainer.config
        accelerator = trainer.accelerator
        self.trainer, self.images, self.run, self.stop = trainer, images, run, stop
        self.config, self.accelerator, self.schedule = config, accelerator, trainer.schedule
        self.interrupt = interrupt or Interrupt(accelerator)
        if isinstance(images.train, StreamedSamples):
            save_state_beside(accelerator, images.train, "stream.json")
        step = run.checkpoint.step if run.checkpoint else 0
        run.trackers = start_trackers(accelerator, config, run.files.folder, step)
        self.start = load_checkpoint(accelerator, run.checkpoint) if run.checkpoint else 0
        if not run.checkpoint:
            try_saving(accelerator, run.files)
        self.num_steps = stop or self.schedule.num_steps
        self.num_chunks = images.num_chunks(config, accelerator)
        images.check_shared_memory(config, accelerator)

        self.meter = Meter(accelerator, config.optim.max_skipped_steps)
        num_images = len(images.train) + len(images.held_out)
        self.bad_images = BadImages(num_images, config.data, run)
        loader = images.load_steps(config, accelerator, self.start, self.num_steps)
        self.chunks = self.bad_images.noted(self.meter.timed(iter(loader)))
        self.eval_loader = images.load_held_out(config, accelerator)
        before = run.seconds_before() if run.checkpoint else 0.0
        began = time.monotonic() if began is None else began
        self.outlook = Outlook(self.schedule, planned)
        self.share: float | None = None  # of the steps left for which there is time
        self.deadline = Deadline(config.run, began - before)
        has_bar = config.run.progress
        self.progress = Progress(accelerator, self.start, self.schedule, self.num_steps, has_bar)
        self.is_over = trainer.is_over(run)

    def train(self) -> None:
        """Train to the end of the schedule or to `stop`, and write what was learned at the end.

        Raises:
            RunStoppedError: Too many steps are not finite, or too many images are unreadable.
            RunInterruptedError: A signal asked the run to stop; the message says whether a
                checkpoint was saved.
            RunReplannedError: The run goes on with another number of steps, to end in time.
        """
        self.progress.on_start(
            self.run.files.folder,
            self.config.optim.batch_size,
            len(self.images.train),
            len(self.images.held_out),
        )
        if self.accelerator.is_main_process:
            source = self.config.data
            warn_of_range(self.images.held_out.images, source.mean, source.std)
            warn_of_size(self.images.held_out.images, self.config.model.image_size)
            warn_of_one_size(self.schedule)
        steps = range(self.start, self.start if self.is_over else self.num_steps)
        with self.progress, self.interrupt:
            if self.start == 0 and self.trainer.evaluates_start:
                self.evaluate(0)
            self.outlook.start()
            for step in steps:
                self.train_step(step)
                self.log(step)
                self.evaluate(step + 1)
                self.save_or_leave(step + 1)
                self.replan_if_needed(step + 1)
                if self.is_over:
                    break
        if self.stop is None:
            self.trainer.finish(self.run, self.eval_chunks())

    def train_step(self, step: int) -> None:
        """Take a step and count it."""
        loss, gradient_norm = self.trainer.train_step(step, self.chunks, self.num_chunks)
        self.meter.add(loss, gradient_norm, self.images_of(step))
        self.progress.on_step()
        if self.config.data.bad_images == "raise":
            self.bad_images.check()

    def images_of(self, step: int) -> int:
        """Return the number of images of a step, over all processes."""
        return self.config.optim.batch_size * self.schedule.stage_at(step).times

    def log(self, step: int) -> None:
        """Write the metrics of the window that ends after a step, if one does."""
        done, stage = step + 1, self.schedule.stage_at(step)
        if done % self.config.run.log_every and done not in (stage.stop, self.num_steps):
            return
        batches = self.schedule.batches_before(done)
        epoch = batches * self.config.optim.batch_size / len(self.images.train)
        learning_rate = self.trainer.learning_rate(step)
        metrics: dict[str, Any] = {"epoch": epoch, "size": stage.size, "lr": learning_rate}
        metrics |= self.meter.read() | {"bad_images": self.bad_images.check()}
        if self.config.run.compile:
            metrics["graphs"] = num_graphs()
        self.run.write_metrics(metrics, done)
        self.trainer.on_window(metrics)
        steps = metrics["images"] // self.images_of(step)
        self.outlook.add(stage.size, steps, metrics["seconds"])
        left = self.outlook.seconds_left(done)
        self.progress.on_window(metrics, done, left)
        if warning := self.deadline.warning(left):
            self.progress.say(warning)
        self.share = self.deadline.share(left)
        if self.config.run.on_late in REPLANS:  # the main process decides, by its clock
            shares = [self.share]
            broadcast_object_list(shares)
            (self.share,) = shares

    def evaluate(self, done: int) -> None:
        """Measure and write the scores that are due after `done` steps."""
        is_evaluation = done == self.num_steps or self.trainer.is_evaluation_due(done)
        if not is_evaluation and not self.trainer.is_probe_due(done):
            return
        with self.meter.excluded():
            scores = self.trainer.probe(done)
            if is_evaluation:
                scores |= self.trainer.evaluate(self.eval_chunks())
            self.bad_images.check()
            if scores:
                self.run.write_metrics(scores, done)
                self.progress.on_scores(scores, done)
            if is_evaluation:
                check_finite(scores)
                self.trainer.on_evaluation(self.run, scores)
                self.is_over = self.trainer.is_over(self.run)

    def save_or_leave(self, done: int) -> None:
        """Save a checkpoint if one is due after `done` steps, or if the run is asked to stop.

        Raises:
            RunInterruptedError: The run is asked to stop before the end of its schedule.
        """
        is_last = self.is_over or done == self.num_steps
        if self.deadline.is_over():
            self.interrupt.ask(f"run.hours {self.config.run.hours:g} are over")
        is_interrupted = self.interrupt.is_agreed() and not is_last
        is_periodic = is_due(done, self.config.run.checkpoint_every)
        if not (is_last or is_interrupted or is_periodic):
            return
        is_saved = self.save(done)
        if is_interrupted:
            saved = "checkpoint saved" if is_saved else "its checkpoint could not be saved"
            raise RunInterruptedError(
                f"interrupted after step {done}, {saved}; --resume auto continues"
            )

    def save(self, done: int) -> bool:
        """Save a checkpoint after `done` steps, and return whether that worked."""
        with self.meter.excluded():
            self.bad_images.check()
            keep = self.config.run.keep_checkpoints
            return save_checkpoint(self.accelerator, self.run.files, done, keep)

    def replan_if_needed(self, done: int) -> None:
        """Give what is left of a run the steps there is time for, if `run.on_late` says so.

        Raises:
            RunReplannedError: The run has to go on from its checkpoint, with the new schedule.
        """
        if self.share is None or self.is_over or done == self.num_steps:
            return
        if not self.trainer.may_start_anew(done):
            return
        num_steps = done + max(1, int(self.share * (self.num_steps - done)))
        self.progress.say(f"{num_steps:,} steps in place of {self.num_steps:,}, to end in time")
        self.run.replan(done, num_steps)
        self.save(done)
        raise RunReplannedError(self.deadline.began + self.run.seconds_before())

    def eval_chunks(self) -> Chunks:
        """Load the held-out images once more, and note the unreadable ones."""
        return self.bad_images.noted(iter(self.eval_loader))


def warn_of_one_size(schedule: Curriculum) -> None:
    """Warn if the stages of a curriculum have become one size, by rounding of a small full size."""
    sizes = {stage.size for stage in schedule.stages}
    if len(schedule.stages) > len(sizes) == 1:
        log.warning(
            "all %d stages have the full size %s, so this is no curriculum: sizes are rounded to "
            "what the network takes. A larger model.image_size has smaller stages; "
            "--curriculum.name constant says what this run is",
            len(schedule.stages),
            schedule.full_size,
        )


def check_finite(scores: dict[str, float]) -> None:
    """Check that the weights have not diverged, before they are kept.

    Raises:
        RunStoppedError: The loss of the held-out images is not finite.
    """
    if not math.isfinite(scores["eval_loss"]):
        raise RunStoppedError(
            f"the loss of the held-out images is {scores['eval_loss']}: training has diverged. "
            "Try a lower optim.base_lr, a longer optim.warmup_epochs or optim.clip_grad 1.0"
        )
