"""Parse recipes and command lines: named YAML recipes, dotted overrides, one-line errors.

jsonargparse does the parsing; this adds recipes by name, and suggests a name for a mistyped one.
Only command lines import it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from jsonargparse import SUPPRESS, ArgumentParser, Namespace
from yaml import YAMLError

from .training import Resume

Config = TypeVar("Config")


class LineParser(ArgumentParser):
    """A parser whose errors are one-line ValueErrors, with the nearest name."""

    recipe_fields: frozenset[str] | None = None
    """The fields that --print_config prints, so that every command can read them; None for all."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def dump(self, namespace: Namespace, **options: Any) -> str:
        """Return the YAML of a configuration, without the options of a command."""
        if self.recipe_fields is not None:
            namespace = namespace.clone()
            for name in vars(namespace).keys() - self.recipe_fields:
                del namespace[name]
        text: str = super().dump(namespace, **options)
        return text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ValueError with the message in terms of the command line."""
        message = message.replace("typing.", "").replace("<class ", "").replace("'>", "'")
        unknown = re.search(r"(?:unrecognized arguments:|[Oo]ption) '?(?:--)?([\w.]+)", message)
        if unknown:
            known = [option[2:] for action in self._actions for option in action.option_strings]
            message = f"unknown option {unknown[1]}{_nearest(unknown[1], known)} ({message})"
        raise ValueError(message)


def recipe_names(package: str) -> list[str]:
    """Return the names of the recipes in a package."""
    names = [file.name for file in resources.files(f"{package}.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def find_recipe(name: str, package: str) -> str:
    """Return the path of the package's recipe of that name, or of a YAML file.

    Raises:
        ValueError: Neither exists.
    """
    names = recipe_names(package)
    if name in names:
        return str(resources.files(f"{package}.recipes") / f"{name}.yaml")
    if Path(name).is_file():
        return name
    raise ValueError(
        f"--config must be a YAML file or one of {', '.join(names)}; got {name!r}"
        + _nearest(name, names)
    )


def config_parser(config_type: type[Config], prog: str, description: str) -> ArgumentParser:
    """Make a parser for `--config` and for every field of a configuration by its dotted name.

    Args:
        config_type: The dataclass of the configuration.
        prog: The command, for messages.
        description: What the command does.
    """
    parser = LineParser(prog=prog, description=description)
    types = _fields(config_type)
    parser.recipe_fields = frozenset(types)
    parser.add_argument("--config", action="config", help="name of a recipe, or a YAML file")
    for field in fields(config_type):  # type: ignore[arg-type]
        name, field_type = field.name, types[field.name]
        if is_dataclass(field_type):
            parser.add_class_arguments(field_type, name)
        else:
            text = field.metadata.get("help")
            parser.add_argument(f"--{name}", type=field_type, default=field.default, help=text)
    parser.add_argument("--images", type=dict[str, int], help=SUPPRESS)  # in a run's config.yaml
    return parser


def parse(
    parser: ArgumentParser, config_type: type[Config], argv: Sequence[str], package: str
) -> tuple[Config, Any]:
    """Return the configuration from a command line, and the namespace of everything parsed.

    Args:
        parser: A parser made by `config_parser`, possibly with further options.
        config_type: The dataclass of the configuration.
        argv: The command line.
        package: The package whose recipes have names.

    Raises:
        ValueError: A recipe or an option is unknown, or a value is out of its range.
    """
    arguments = list(argv)
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            arguments[index + 1] = find_recipe(arguments[index + 1], package)
        elif argument.startswith("--config="):
            arguments[index] = f"--config={find_recipe(argument.partition('=')[2], package)}"
    try:
        namespace = parser.instantiate(parser.parse_args(arguments))
    except (UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"--config must be a YAML file ({error})") from error
    except TypeError as error:  # a section that is not a mapping
        raise ValueError(f"--config must hold sections of fields: {error}") from error
    return config_type(**{name: namespace[name] for name in _fields(config_type)}), namespace


def add_resume(parser: ArgumentParser) -> None:
    """Add the option `--resume [auto]`, which `resume_of` reads."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        type=bool | str,
        metavar="auto",
        help="resume from the last checkpoint; auto: if there is a run, else start one",
    )


def resume_of(options: Any) -> Resume:
    """Return what `--resume` says.

    Raises:
        ValueError: The option is followed by anything but auto.
    """
    value = options.resume
    if value == "auto":
        return "auto"
    if not isinstance(value, bool):
        raise ValueError(f"--resume must be alone or followed by auto, got {value!r}")
    return value


def _fields(config_type: type[Config]) -> dict[str, Any]:
    hints = get_type_hints(config_type)
    return {field.name: hints[field.name] for field in fields(config_type)}  # type: ignore[arg-type]


def _nearest(name: str, names: Sequence[str]) -> str:
    # "epoch" finds optim.epochs; of several fields with one name, the first counts.
    by_field = {known.rpartition(".")[2]: known for known in reversed(names)}
    found = difflib.get_close_matches(name, [*names, *by_field], n=1)
    return f"; nearest: {by_field.get(found[0], found[0])}" if found else ""
