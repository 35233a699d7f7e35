"""Parts of the reference that are made from the code: tables of options, and the help of commands.

A page has them by the directives `{configuration-table} mae_et.config:PretrainConfig pretrain` and
`{command-help} mae_et plan`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Any, get_type_hints
from unittest import mock

import yaml
from docstring_parser import parse
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mae_et.config import to_dict
from mae_et.config.type_words import type_in_words


class ConfigurationTable(SphinxDirective):
    """A table for each section of a configuration: options, types, defaults and meanings.

    The first argument is the dataclass, as module:name; the second begins the anchors of its
    options, so that `#pretrain-optim-epochs` leads to one.
    """

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the tables, as the page's own parser makes them."""
        module, _, name = self.arguments[0].partition(":")
        config = getattr(import_module(module), name)
        self.env.note_dependency(import_module(config.__module__).__file__ or "")
        text = "\n".join(_sections(config, self.arguments[1]))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class CommandHelp(SphinxDirective):
    """What a command prints for `--help`; the arguments are its package and its name."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help as a literal block."""
        package, *command = self.arguments
        main = import_module(f"{package}.__main__").main
        printed = io.StringIO()
        wide = mock.patch.dict(os.environ, COLUMNS="96")
        with wide, redirect_stdout(printed), suppress(SystemExit):
            main([*command, "--help"])
        text = printed.getvalue().strip()
        return [nodes.literal_block(text, text, language="text")]


def _sections(config: type, anchor: str) -> Iterator[str]:
    """Yield the lines of the tables of a configuration, its own fields first."""
    hints = get_type_hints(config)
    own = [item for item in fields(config) if not is_dataclass(hints[item.name])]
    yield from _heading("The run itself", "Options without a section.")
    yield from _table(config, own, "", anchor)
    for item in fields(config):
        section = hints[item.name]
        if is_dataclass(section):
            summary = parse(section.__doc__ or "").short_description or ""
            yield from _heading(f"`{item.name}`", summary)
            yield from _table(section, fields(section), f"{item.name}.", anchor)


def _heading(title: str, text: str) -> Iterator[str]:
    yield from (f"## {title}", "", text, "")


def _table(config: Any, items: Any, prefix: str, anchor: str) -> Iterator[str]:
    """Yield the lines of a Markdown table of fields, those of nested sections among them."""
    yield from ("{.options}", "| option | type | default | meaning, range |", "|---|---|---|---|")
    yield from _rows(config, items, prefix, anchor)
    yield ""


def _rows(config: Any, items: Any, prefix: str, anchor: str) -> Iterator[str]:
    hints, meanings = get_type_hints(config), _meanings(config)
    for item in items:
        name, hint = prefix + item.name, hints[item.name]
        if is_dataclass(hint):
            yield from _rows(hint, fields(hint), f"{name}.", anchor)
            continue
        meaning = item.metadata.get("help") or meanings.get(item.name, "")
        words = re.sub(r",? such as '.*?'", "", type_in_words(hint))
        target = f"{anchor}-{name}".replace(".", "-").replace("_", "-")
        cells = (f"[`{name}`]{{#{target}}}", words, _default(item), " ".join(meaning.split()))
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _meanings(config: type) -> dict[str, str]:
    """Return what each field means, by the docstring of the class that says it last."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        for entry in parse(base.__doc__ or "").params if is_dataclass(base) else ():
            found[entry.arg_name] = entry.description or ""
    return found


def _default(item: Field[Any]) -> str:
    """Return a default as it is written in a recipe."""
    value = item.default
    if value is MISSING:
        if item.default_factory is MISSING:
            return ""
        value = item.default_factory()
    plain = to_dict(value) if is_dataclass(value) else value
    plain = list(plain) if isinstance(plain, tuple) else plain
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n")
    return f"`{text.strip()}`"
