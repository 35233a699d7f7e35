"""From images and hours to a configuration: the order in which facts, rules and trials follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..build import build_curriculum, build_model_on_meta
from ..config import PretrainConfig
from ..errors import check
from ..training import main_process_first, make_accelerator
from . import rules
from .choices import Choices
from .encoders import Encoder
from .facts import ImageFacts, MachineFacts, look_at_images, look_at_machine
from .hours import INTERVALS, MARGIN, Speed, epochs_for, intervals, largest_micro_batch, measure
from .resolved import Resolved

Make = Callable[[Mapping[str, Any]], PretrainConfig]
"""Makes the configuration of chosen settings, by dotted name, and of those that the user gave."""

MOST_WAITING = 0.1
"""The share of a step spent waiting for images from which on the loader is relieved."""

LEAST_GAIN = 0.9
"""The share of its time without them that a run may take with images used again."""

ENOUGH = 0.1
"""An encoder is too large for the hours if they allow less than this share of the epochs that a run
without hours would have."""

FIRST_SECONDS, LAST_SECONDS, LAST_ROUNDS = 0.5, 2.0, 3
"""Seconds of the steps of a size in first measurements, and in the rounds of the last one."""

MEASURED_SHARE = 0.1
"""The share of a stage's part of a short run that a measurement at its size may take."""

MOST_MEASURING = 0.25
"""The share of its hours after which a run is planned by what has been measured so far."""

LONG_RUN = 0.2
"""Hours from which on a run is long enough for a longer measurement."""


def resolve(
    make: Make, given: Mapping[str, Any], *, hours: float | None = None, began: float | None = None
) -> Resolved:
    """Choose all settings of a run that the user has not given, from the images and the machine.

    All processes take part, and get the same settings.

    Args:
        make: See `Make`.
        given: What the user has given, by dotted name.
        hours: How long the run may take from `began`; None for a rule.
        began: When the command was started, by `time.monotonic`; None for now.

    Raises:
        ValueError: The images can't be read or are too small, the hours too few, or settings do
            not fit each other.
    """
    allowed = "left out, since optim.epochs is given"
    check(hours is None or "optim.epochs" not in given, "--hours", hours, allowed)
    method, allowed = given.get("model.method", "mae"), "mae or simmim without a recipe (hiera_b)"
    check(method != "hiera", "model.method", method, allowed)
    source = make(_neutral(given))
    accelerator = make_accelerator(source.run, allow_fsdp=True)
    is_given = not {"model.in_chans", "data.mean", "data.std"}.isdisjoint(given)
    facts = _facts(accelerator, source, source.model.in_chans if is_given else None)
    _check_readable(facts, source.data.allowed_bad_share)
    machine = look_at_machine(accelerator)
    began = time.monotonic() if began is None else began
    return _Resolver(make, Choices(given), facts, machine, hours, began).resolve()


def _neutral(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a configuration valid before anything is known of its images."""
    lengths = [len(given[name]) for name in ("data.mean", "data.std") if name in given]
    channels = given.get("model.in_chans") or next(iter(lengths), 1)
    half = [0.5] * channels
    return {
        "model.in_chans": channels,
        "data.mean": half,
        "data.std": half,
        "optim.warmup_epochs": 0.0,
    }


def _check_readable(facts: ImageFacts, allowed: float) -> None:
    """Check that a run would not stop for its unreadable images, before anything is measured.

    Raises:
        ValueError: Many more of those looked at are unreadable than `allowed`, a share.
    """
    number = facts.sampled + facts.unreadable
    if facts.unreadable > allowed * number + 2 * (allowed * number) ** 0.5 + 1:
        share = min(1.0, 1.2 * facts.unreadable / number)
        raise ValueError(
            f"data.path must hold readable images, got {facts.unreadable} unreadable ones of "
            f"{number} looked at ({facts.reason}); --data.max_bad_share {share:.2g} "
            "goes on without them"
        )


def _facts(accelerator: Accelerator, config: PretrainConfig, in_chans: int | None) -> ImageFacts:
    """Look at the images in the main process; all share what it finds in a sample of any length."""
    facts: list[ImageFacts | None] = [None]

    def look() -> None:
        if accelerator.is_main_process:
            facts[0] = look_at_images(config.data, config.run.seed, in_chans)

    main_process_first(accelerator, look)
    broadcast_object_list(facts)
    assert facts[0] is not None
    return facts[0]


class _Resolver:
    """The settings of a run while they are chosen."""

    def __init__(
        self,
        make: Make,
        choices: Choices,
        facts: ImageFacts,
        machine: MachineFacts,
        hours: float | None,
        began: float,
    ) -> None:
        self.make, self.choices, self.facts, self.machine = make, choices, facts, machine
        self.hours, self.began = hours, began
        self.default_epochs = rules.default_epochs(facts.number)

    @property
    def config(self) -> PretrainConfig:
        """The run with the settings chosen so far."""
        return self.make(self.choices.chosen())

    def resolve(self) -> Resolved:
        """Choose everything."""
        rules.choose_images(self.choices, self.facts)
        rules.choose_machine(self.choices, self.machine)
        rules.choose_curriculum(self.choices)
        self._check_hours()
        speed = self._choose_encoder()
        speed = self._replayed(self._measure()) if self._has_time() else speed
        if self.hours is not None:
            epochs = self._affordable(speed)
            reason = f"{self.hours:g} hours at the measured {speed.words()}"
            self._choose_epochs(epochs, reason)
        config = self.config
        curriculum = build_curriculum(config, build_model_on_meta(config), self.facts.number)
        seconds = speed.start + speed.seconds(curriculum) + speed.evaluation
        if self.hours is not None:
            reason = "ends in time, with fewer or more steps, if the speed turns out otherwise"
            self.choices.choose("run.on_late", "fit", reason)
        for name, every in intervals(curriculum, speed, seconds).items():
            self.choices.choose(name, every, INTERVALS[name])
        return Resolved(
            config=self.config,
            choices=self.choices,
            speed=speed,
            seconds=seconds,
            steps=curriculum.num_steps,
            before=self._passed(),
        )

    def _choose_encoder(self) -> Speed:
        """Choose the largest encoder for which there are images and time, and its batch.

        Returns the speed of a first measurement.
        """
        encoders = rules.encoders_for(self.choices, self.facts, self.machine)
        for encoder in encoders:
            reason = f"{self.facts.number:,} images"
            if encoder is not encoders[0]:
                reason += f"; within {self.hours:g} hours a larger one sees them too seldom"
            rules.choose_encoder(self.choices, encoder, reason)
            self._choose_epochs(self.default_epochs, "a rule; --hours fits them to your time")
            # A CPU is measured sooner with a small batch; a GPU would not be filled by it.
            measured = 0 if self.machine.device == "cpu" else self.default_epochs
            self._choose_batch(measured, encoder)
            speed, epochs = self._relieved(), self.default_epochs
            if self.hours is not None:
                found = self._worthwhile(speed, is_last=encoder is encoders[-1])
                if found is None:
                    continue
                epochs = found
                self._choose_epochs(epochs, "")
            batch_size = self.config.optim.batch_size
            if epochs != measured:
                self._choose_batch(epochs, encoder)
            return speed.scaled(self.config.optim.batch_size / batch_size)
        raise AssertionError("the last encoder is always chosen")

    def _passed(self) -> float:
        """Return the seconds so far, the same in every process."""
        passed = [time.monotonic() - self.began]
        broadcast_object_list(passed)
        return passed[0]

    def _has_time(self) -> bool:
        return self.hours is None or self._passed() < MOST_MEASURING * 3600 * self.hours

    def _choose_epochs(self, epochs: float, reason: str) -> None:
        epochs = self.choices.choose("optim.epochs", float(f"{epochs:.6g}"), reason)
        rules.choose_warmup(self.choices, epochs)

    def _choose_batch(self, epochs: float, encoder: Encoder) -> None:
        processes = self.machine.processes
        rules.choose_batch(self.choices, self.facts, processes, epochs, encoder.width)
        share = self.choices["optim.batch_size"] // processes
        if self.machine.device == "cpu":
            fits = rules.cpu_micro_batch(self.choices, self.machine, encoder)
            self.choices.choose("optim.micro_batch_size", min(share, fits), "enough for a CPU")
        elif "optim.micro_batch_size" not in self.choices.given:
            self.choices.choose("optim.micro_batch_size", share, "")
            fits = largest_micro_batch(self.config)
            self.choices.choose("optim.micro_batch_size", fits, "most that fits, tried")

    def _relieved(self) -> Speed:
        """Measure, and again with smaller images from the loader if small stages wait for them."""
        at_device = "the loader keeps up with the exact crop"
        self.choices.choose("data.downsample", "device", at_device)
        speed = measure(self.config, FIRST_SECONDS)
        most = max(speed.waiting.values())
        if most > MOST_WAITING and "data.downsample" not in self.choices.given:
            waiting = f"{most:.0%} of the time of small stages went into waiting"
            self.choices.choose("data.downsample", "loader", waiting)
            relieved = measure(self.config, FIRST_SECONDS)
            if max(relieved.waiting.values()) < most:
                return relieved
            self.choices.choose("data.downsample", "device", "making images smaller did not help")
        return speed

    def _measure(self) -> Speed:
        """Measure what is chosen, the longer the longer the run is."""
        if self.hours is None or self.hours >= LONG_RUN:
            return measure(self.config, LAST_SECONDS, rounds=LAST_ROUNDS)
        # The first few steps are too fast: their images have been loaded before.
        share = MEASURED_SHARE * 3600 * self.hours / self.config.curriculum.num_stages
        return measure(self.config, max(FIRST_SECONDS, min(share, LAST_SECONDS)))

    def _replayed(self, speed: Speed) -> Speed:
        """Measure again with images used more than once, if small stages still wait for theirs."""
        is_waiting = max(speed.waiting.values()) > MOST_WAITING
        if not is_waiting or "data.replay" in self.choices.given:
            return speed
        if not rules.choose_replay(self.choices, self.machine, speed.waiting, MOST_WAITING):
            return speed
        config = self.config
        curriculum = build_curriculum(config, build_model_on_meta(config), self.facts.number)
        replayed = self._measure()
        if replayed.seconds(curriculum) < LEAST_GAIN * speed.seconds(curriculum):
            return replayed
        self.choices.drop("data.replay")
        return speed

    def _check_hours(self) -> None:
        """Check that the hours are longer than measuring takes, before it is begun.

        Raises:
            ValueError: They are not.
        """
        if self.hours is None:
            return
        least = (self._passed() + 2 * FIRST_SECONDS * self.config.curriculum.num_stages) / 3600
        if self.hours < least:
            raise ValueError(
                f"--hours must be above {least:.2g}, which looking and measuring take alone, got "
                f"{self.hours:g} (0.05 are three minutes)"
            )

    def _worthwhile(self, speed: Speed, *, is_last: bool) -> float | None:
        """Return the epochs there is time for; None if too few, unless no encoder is left."""
        try:
            epochs = self._affordable(speed)
        except ValueError:  # there is no time for one step of each stage
            if is_last:
                raise
            return None
        return epochs if is_last or epochs >= ENOUGH * self.default_epochs else None

    def _affordable(self, speed: Speed) -> float:
        """Return the epochs that fit into the time that is left."""
        assert self.hours is not None
        beside = self._passed() + speed.start + speed.evaluation
        left = MARGIN * (3600 * self.hours - beside)
        config = self.config
        model = build_model_on_meta(config)
        return epochs_for(config, model, self.facts.number, speed, left, beside)
