"""What is asked of automatic settings: a command line of which only a part of a run is given."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from jsonargparse import ArgumentParser

from ..errors import check
from .local_paths import check_local_path
from .parser import parse, plain_errors, with_recipes
from .training import Resume

Config = TypeVar("Config")


def add_automatic(parser: ArgumentParser) -> None:
    """Add what automatic settings need: the images as the first argument, --hours and --out."""
    parser.add_argument(
        "images_path",
        nargs="?",
        type=str | None,
        metavar="DATA",
        help="the images, as in data.path; without --config, all settings are chosen for them",
    )
    parser.add_argument("--hours", type=float | None, help="hours the run may take, such as 0.5")
    parser.add_argument("--out", type=str | None, help="the folder of the run, as run.output_dir")


class Request(Generic[Config]):
    """A command line of which some settings are given, and others are to be chosen.

    Args:
        parser: A parser with the options of `add_automatic`.
        config_type: The dataclass of the configuration.
        argv: The command line.
        package: The package whose recipes have names.

    Raises:
        ValueError: As in `parse`; or a setting is given twice.
    """

    def __init__(
        self, parser: ArgumentParser, config_type: type[Config], argv: Sequence[str], package: str
    ) -> None:
        self._parser, self._type, self._package = parser, config_type, package
        self.arguments, self.recipe = with_recipes(argv, config_type, package)
        with plain_errors():
            self.options = parser.parse_args(self.arguments)
            """All options, those that are not given as they are by default."""
            found = dict(parser.parse_args(self.arguments, defaults=False).items())
        self.names_images = found.get("images_path") is not None
        """Whether the images are the first argument."""
        for option, name, field in (
            ("images_path", "DATA", "data.path"),
            ("out", "--out", "run.output_dir"),
            ("hours", "--hours", "run.hours"),
        ):
            value = found.pop(option, None)
            if value is not None:
                is_twice = self.is_on_line(field)
                check(not is_twice, f"--{field}", found.get(field), f"left out with {name}")
                self.arguments += [f"--{field}={value}"]
                found[field] = value
        hours = found.get("run.hours")
        check(hours is None or hours > 0, "--hours", hours, "above 0")
        sections = {field.name for field in fields(config_type)}  # type: ignore[arg-type]
        self.given = {
            name: value for name, value in found.items() if name.partition(".")[0] in sections
        }
        """What is given of the configuration, by dotted name."""

    def make(self, chosen: Mapping[str, Any]) -> Config:
        """Return the configuration of what is given, with chosen settings in place of the others.

        Args:
            chosen: Settings by dotted name; those on the command line itself go before them.
        """
        configs = [n for n, text in enumerate(self.arguments) if text.startswith("--config")]
        start = configs[-1] + (self.arguments[configs[-1]] == "--config") + 1 if configs else 0
        arguments = self.arguments[:start] + options_of(chosen) + self.arguments[start:]
        return parse(self._parser, self._type, arguments, self._package)[0]

    def check_paths(self, *, begins: bool) -> None:
        """Check the paths that can only be of this machine.

        Args:
            begins: Whether a run begins, for which there must be a checkpoint if one is given.

        Raises:
            ValueError: There is nothing at one of them.
        """
        check_local_path("data.path", self.given.get("data.path"))
        if begins:
            check_local_path("checkpoint", self.given.get("checkpoint"))

    @property
    def is_automatic(self) -> bool:
        """Whether all settings are to be chosen: there are images, and no recipe."""
        return self.names_images and self.recipe is None

    @property
    def hours(self) -> float | None:
        """The hours that the command line gives; those of a run's file were planned for it."""
        return self.given["run.hours"] if self.is_on_line("run.hours") else None

    def is_on_line(self, field: str) -> bool:
        """Return whether a setting is given on the command line itself, not by a recipe."""
        return any(text.partition("=")[0] == f"--{field}" for text in self.arguments)

    def give(self, field: str, value: str) -> None:
        """Give a setting that is not given yet."""
        if field not in self.given:
            self.given[field] = value
            self.arguments.append(f"--{field}={value}")

    def begin_with(self, recipe: Path) -> None:
        """Take the settings of a recipe, those given going before them.

        Args:
            recipe: A YAML file.
        """
        self.arguments.insert(0, f"--config={recipe}")


def options_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of a command line.

    Args:
        settings: Values by dotted name, or sections of them.
    """
    options = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and "." not in name:  # a section; others hold arguments
            options += options_of({f"{name}.{field}": item for field, item in value.items()})
        else:
            is_text = isinstance(value, str | Path)
            text = str(value) if is_text else json.dumps(value, default=_plain)
            options.append(f"--{name}={text}")
    return options


def _plain(value: Any) -> Any:
    """Return a value that JSON does not know, such as an array of NumPy, as one that it knows."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def default_folder(path: str, ending: str = "") -> str:
    """Return the folder of a run on some images, by their name.

    Args:
        path: The images, as in `data.path`.
        ending: What is put after the name.
    """
    location = Path(path.rpartition(":")[2]).expanduser().resolve()
    if re.search(r"[*?[{]", location.name):
        location = location.parent
    name = re.sub(r"(\.parquet|\.parq|\.pq|\.tar(\.\w+)?|\.tgz)$", "", location.name)
    word = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return f"runs/{word or 'images'}{ending}"


def arguments_of(
    data: str | Path | None,
    *,
    hours: float | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    resume: Resume = False,
    settings: Mapping[str, Any],
) -> list[str]:
    """Return the command line of a call from Python.

    Args:
        data: The images, as the first argument.
        hours: As --hours.
        recipe: As --config.
        out: As --out.
        resume: As --resume.
        settings: Further settings, as sections or dotted.
    """
    arguments = [] if recipe is None else [f"--config={recipe}"]
    if data is not None:
        arguments.append(str(data))
    if hours is not None:
        arguments.append(f"--hours={hours}")
    if out is not None:
        arguments.append(f"--out={out}")
    arguments += options_of(settings)
    if resume:
        arguments += ["--resume", *(["auto"] if resume == "auto" else [])]
    return arguments


def check_options(options: Collection[str], known: Collection[str]) -> None:
    """Check that options of a call from Python have the names of known ones.

    Args:
        options: The names that are given.
        known: Those that there are.

    Raises:
        ValueError: One has not; the message says which is near.
    """
    for name in options:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; nearest: {near[0]}" if near else f"; one of {', '.join(sorted(known))}"
        if name not in known:
            raise ValueError(f"unknown option {name}{hint}")
