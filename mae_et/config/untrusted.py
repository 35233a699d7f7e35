"""Read text, YAML and JSON that anybody may have written, in bounded time and memory.

A run's folder or a recipe may come from a stranger. What is not a small regular file of plain data
is refused in one line that says why: pipes and devices, gigabytes, data that are nested without end
or that grow without end when aliases are followed, and tags or keys that ask for code to be run.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

MAX_BYTES = 2**20
"""The most bytes of a configuration. (Ours have a few thousand.)"""

MAX_NODES = 50_000
"""The most values of a configuration, once its aliases are followed."""

MAX_DEPTH = 32
"""The most sections within each other. (Ours have four.)"""

CODE_KEYS = frozenset({"class_path", "init_args", "dict_kwargs"})
"""Keys with which the parser of command lines would import a class, which no field here needs."""


class TooLargeError(yaml.YAMLError):
    """YAML that holds more, or deeper, than any configuration."""


Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader of plain data, which knows no tags that build Python objects."""


def open_text(file: Path, *, within: Path | None = None) -> IO[str]:
    """Open a regular file of text, and nothing else: no pipe that blocks, no device without end.

    Args:
        file: The file.
        within: The folder that a link must not leave; None to follow links anywhere.

    Raises:
        ValueError: The file is not regular, or is a link that leaves the folder.
        OSError: The file is missing or can't be read.
    """
    if within is not None:
        check_within(file, within)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    opened = os.fdopen(descriptor, encoding="utf-8")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        opened.close()
        raise ValueError(f"{file} must be a regular file")
    return opened


def check_within(path: Path, folder: Path) -> None:
    """Check that a path in a folder is not a link, or below a link, that leaves the folder.

    Args:
        path: The path, which need not exist.
        folder: The folder, which may be a link itself.

    Raises:
        ValueError: The path is elsewhere.
    """
    target = Path(os.path.realpath(path))  # unlike resolve, this does not fail on loops
    if not target.is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{path} must not be a link that leaves {folder}, got one to {target}")


def read_text(file: Path, *, within: Path | None = None, most: int = MAX_BYTES) -> str:
    """Read a regular file of text that is not too long.

    Args:
        file: The file.
        within: See `open_text`.
        most: The most bytes that it may have.

    Raises:
        ValueError: The file is not regular, too long, not text, or elsewhere.
        OSError: The file is missing or can't be read.
    """
    with open_text(file, within=within) as opened:
        size = os.fstat(opened.fileno()).st_size
        if size > most:
            raise ValueError(f"{file} must have at most {most:,} bytes, got {size:,}")
        return opened.read(most)


def read_yaml(file: Path, *, within: Path | None = None) -> Any:
    """Read a small YAML file of plain data.

    Args:
        file: The file.
        within: See `open_text`.

    Raises:
        ValueError: The file is not one; the message names it and says why.
    """
    try:
        return parse_yaml(read_text(file, within=within))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} must be a YAML file ({error})") from error


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain data.

    Raises:
        yaml.YAMLError: It is not YAML, or is none of plain data of moderate size.
    """
    try:
        _check_depth(text)
        parser = Loader(text)
        try:
            node = parser.get_single_node()
            if node is None:
                return None
            _measure(node, 0, {})
            return parser.construct_document(node)
        finally:
            parser.dispose()
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except (ValueError, ArithmeticError) as error:  # a number of 5,000 digits, a 13th month
        raise yaml.YAMLError(f"a value can't be read: {error}") from error


def _check_depth(text: str) -> None:
    """Check how deep YAML is nested, without recursion, which can end a process in PyYAML 6.0.

    Raises:
        TooLargeError: It is nested too deeply.
    """
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH + 1:
            raise TooLargeError(f"nested more than {MAX_DEPTH} levels deep")


def _measure(node: yaml.Node, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values of a node and the levels below it, with aliases followed.

    Args:
        node: The node.
        depth: The number of nodes that it is in.
        known: The results so far, so that each node is visited once.

    Raises:
        TooLargeError: There are too many of them.
        yaml.YAMLError: A mapping has a key that it must not have.
    """
    size, height = known.get(id(node), (0, 0))
    if not size:
        size = 1
        for child in _children(node):
            if depth > MAX_DEPTH:  # also where a node is within itself
                break
            more, below = _measure(child, depth + 1, known)
            size, height = size + more, max(height, below + 1)
        known[id(node)] = size, height
    if depth + height > MAX_DEPTH:
        raise TooLargeError(f"nested more than {MAX_DEPTH} levels deep")
    if size > MAX_NODES:
        raise TooLargeError(f"more than {MAX_NODES:,} values, with aliases followed")
    return size, height


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the values in a node.

    Raises:
        yaml.YAMLError: A mapping has a key twice, one that is no word, or one that names code.
    """
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key that is no word in line {line}")
            if key.value in CODE_KEYS:
                raise yaml.YAMLError(f"{key.value} in line {line}, which names code to run")
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value[:80]!r} given twice, again in line {line}")
            seen.add(key.value)
            yield value


def parse_json(text: str) -> Any:
    """Parse JSON of finite numbers; Python itself would also read NaN and Infinity.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON")
