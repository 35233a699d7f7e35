"""Parse recipes and command lines: named YAML recipes, dotted overrides, one-line errors.

jsonargparse does the parsing; this adds recipes by name, suggests a name for a mistyped one, and
refuses recipes that are more than plain data. Only command lines import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import SUPPRESS, ArgumentParser
from yaml import YAMLError

from ..errors import check
from .line_parser import LineParser, nearest
from .local_paths import check_local_path
from .training import Resume
from .type_words import type_in_words, type_symbol
from .untrusted import TooLargeError, parse_yaml, read_yaml

Config = TypeVar("Config")

MAX_ENTRIES = 300
"""The most stages, or data sets, of a recipe; jsonargparse takes a hundredth of a second each."""


COMMANDS = {
    "mae_et": "mae-et pretrain, or mae-et plan",
    "finetune": "mae-et-finetune, or mae-et-finetune plan",
}
"""Package -> the commands of its recipes."""


def recipe_names(package: str) -> list[str]:
    """Return the names of the recipes in a package."""
    names = [file.name for file in resources.files(f"{package}.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def recipe_titles(package: str) -> str:
    """Return the names of the recipes in a package, each with the first line of its header."""
    names = recipe_names(package)
    width = max(map(len, names))
    lines = []
    for name in names:
        text = resources.files(f"{package}.recipes").joinpath(f"{name}.yaml").read_text("utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        lines.append(f"{name:<{width}}  {title}{'' if title.endswith('.') else ' …'}")
    return "\n".join(lines)


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
    for other, command in COMMANDS.items():
        if other != package and name in recipe_names(other):
            raise ValueError(f"--config must be a recipe of this command, got {name}: {command}")
    raise ValueError(
        f"--config must be a YAML file or one of {', '.join(names)}; got {name!r}"
        + nearest(name, names)
    )


def config_parser(
    config_type: type[Config],
    prog: str,
    description: str,
    first: Sequence[str] = (),
    epilog: str = "",
) -> LineParser:
    """Make a parser for `--config` and for every field of a configuration by its dotted name.

    Args:
        config_type: The dataclass of the configuration.
        prog: The command, for messages.
        description: What the command does.
        first: The options that --help shows, by dotted name; --help_all shows the others.
        epilog: What follows the options in the help.
    """
    parser = LineParser(prog=prog, description=description, first=first, epilog=epilog)
    types = _fields(config_type)
    parser.recipe_fields = frozenset(types)
    parser.add_argument("--config", action="config", help="name of a recipe, or a YAML file")
    for field in fields(config_type):  # type: ignore[arg-type]
        name, field_type = field.name, types[field.name]
        if is_dataclass(field_type):
            parser.add_class_arguments(field_type, name)
            _name_section(parser, name)
        else:
            text = field.metadata.get("help")
            parser.add_argument(f"--{name}", type=field_type, default=field.default, help=text)
    # In a run's config.yaml: the numbers of its images, and their digest.
    parser.add_argument("--images", type=dict[str, int | str], help=SUPPRESS)
    return parser


def _name_section(parser: ArgumentParser, name: str) -> None:
    """Put a section's name above its options, and leave out the file that may hold it."""
    groups: Mapping[str, Any] = parser.groups or {}
    for key, group in groups.items():
        if key.split(".")[0] == name:
            group.title = f"{key} ({group.title})"
    for action in parser._actions:
        is_extra = action.metavar == "CONFIG" or action.dest.endswith(".help")
        if is_extra and action.dest.split(".")[0] == name:
            action.help = SUPPRESS


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
    arguments, _ = with_recipes(argv, config_type, package)
    with plain_errors():
        namespace = parser.instantiate(parser.parse_args(arguments))
    return config_type(**{name: namespace[name] for name in _fields(config_type)}), namespace


def with_recipes(
    argv: Sequence[str], config_type: type, package: str
) -> tuple[list[str], str | None]:
    """Return a command line with the files of its recipes, and the last of these.

    Args:
        argv: The command line.
        config_type: The dataclass of the configuration.
        package: The package whose recipes have names.

    Raises:
        ValueError: A recipe is unknown, or more than plain data.
    """
    arguments, recipe = list(argv), None
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            recipe = arguments[index + 1] = find_recipe(arguments[index + 1], package)
        elif argument.startswith("--config="):
            recipe = find_recipe(argument.partition("=")[2], package)
            arguments[index] = f"--config={recipe}"
        else:
            continue
        check_recipe(recipe, config_type)
    return arguments, recipe


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what goes wrong in reading a recipe as a ValueError of one line."""
    try:
        yield
    except (UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"--config must be a YAML file ({error})") from error
    except TypeError as error:  # a section that is not a mapping
        raise ValueError(f"--config must hold sections of fields: {error}") from error


def check_recipe(file: str, config_type: type) -> None:
    """Check that a recipe is plain data: sections, not names of files or classes in their place.

    jsonargparse would open the file, or import the class. (Fields are checked when it parses them.)

    Args:
        file: The file.
        config_type: The dataclass of the configuration.

    Raises:
        ValueError: It is not; the message names the field.
    """
    try:
        recipe = read_yaml(Path(file))
    except ValueError as error:
        raise ValueError(f"--config {error}") from error
    check(isinstance(recipe, dict), f"--config {file}", recipe, "a YAML file of sections")
    check("config" not in recipe, f"--config {file}", recipe.get("config"), "without a config")
    _check_section(recipe, config_type, "")


def _check_section(section: Mapping[Any, Any], kind: type, prefix: str) -> None:
    for key, value in section.items():
        name, hint = f"{prefix}{key}", _hint_of(kind, str(key))
        _check_texts(value, name)
        if is_dataclass(hint):
            check(isinstance(value, dict), name, value, "a section of fields")
            _check_section(value, hint, f"{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is dict:
            check(isinstance(value, dict), name, value, "a section of fields")
        elif get_origin(hint) is list and is_dataclass(get_args(hint)[0]):
            parts: list[Any] = value if isinstance(value, list) else [None]
            ok = all(isinstance(part, dict) for part in parts)
            check(ok, name, value, "a list of sections of fields")
            check(len(parts) <= MAX_ENTRIES, f"the length of {name}", len(parts), "at most 300")
            for part in parts:
                _check_section(part, get_args(hint)[0], f"{name}.")
        elif value is None and hint is not None and "null" not in type_symbol(hint).split("|"):
            # jsonargparse takes it for a field that is not given
            raise ValueError(f"{name} must be {type_in_words(hint)}, got null")


def _check_texts(value: Any, name: str) -> None:
    """Check the texts in a value: jsonargparse parses some of them as YAML once more."""
    for text in value if isinstance(value, list) else [value]:
        try:
            parse_yaml(text if isinstance(text, str) else "")
        except TooLargeError as error:
            raise ValueError(f"{name} must be a value, got YAML with {error}") from error
        except YAMLError:
            pass  # no YAML, so no more than a text


def _hint_of(kind: type, key: str) -> Any:
    """Return the type of a field, of which key may be a dotted name; None if there is no such."""
    hint: Any = kind
    for name in key.rstrip("+").split("."):  # jsonargparse reads "stages+" as "append to stages"
        hint = _fields(hint).get(name) if is_dataclass(hint) else None
    return hint


def add_images(parser: ArgumentParser, option: str = "--data.path") -> None:
    """Add the images, as the first argument or as an option, which `images_of` reads."""
    parser.add_argument("DATA", type=str, nargs="?", help="images, as for pretrain")
    parser.add_argument(option, type=str, help="the same")


def images_of(options: Any, option: str = "--data.path") -> str:
    """Return the images that a command line names.

    Raises:
        ValueError: It names none, names them twice, or there are none at a path of this machine.
    """
    field = option.removeprefix("--")
    first, second = options.DATA, options[field]
    if (first is None) == (second is None):
        got = "none" if first is None else f"{first!r} and {second!r}"
        raise ValueError(f"DATA must be given once, or else as {option}, got {got}")
    path: str = first or second
    check_local_path(field if "." in field else option, path)
    return path


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


def _fields(config_type: Any) -> dict[str, Any]:
    hints = get_type_hints(config_type)
    return {field.name: hints[field.name] for field in fields(config_type)}
