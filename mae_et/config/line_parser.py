"""The parser of every command: one-line errors with the nearest name, and short help.

jsonargparse does the parsing. Values must be plain data, see `untrusted`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader
from yaml import YAMLError

from .help import BriefFormatter, HelpAll, HelpFormatter, first_clause
from .type_words import type_in_words
from .untrusted import parse_yaml

LONGEST_CLAUSE = 90
"""The most letters of an option's help that an error about its type repeats."""


def _load_plain(text: str) -> Any:
    """Parse a value as jsonargparse does, if it is plain data; see `parse_yaml`."""
    parse_yaml(text)
    return get_loader("yaml")(text)


set_loader("plain_yaml", _load_plain, (YAMLError,))


class LineParser(ArgumentParser):
    """A parser whose errors are one-line ValueErrors, with the nearest name."""

    recipe_fields: frozenset[str] | None = None
    """The fields that --print_config prints, so that every command can read them; None for all."""

    first: Sequence[str] = ()
    """The options that --help shows, by dotted name, before those of --help_all; empty for all."""

    def __init__(self, *arguments: Any, first: Sequence[str] = (), **options: Any) -> None:
        own = {"parser_mode": "plain_yaml", "allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(*arguments, **{**own, **options})
        if first:
            self.first = first
            self.add_argument(
                "--help_all", action=HelpAll, help="show all options in full, by section"
            )

    def format_help(self, *formatter: Any) -> str:
        """Return the help: of the first options in brief, or of all of them by section."""
        all_groups = self._action_groups
        if self.first:
            options = {action.dest: action for action in self._actions}
            brief = type(all_groups[0])(self, title="options")
            names = ("help", "help_all", *self.first)
            brief._group_actions = [options[name] for name in names]
            self._action_groups = [brief]
        self.formatter_class = BriefFormatter if self.first else HelpFormatter
        try:
            text: str = super().format_help(*formatter)
            return text
        finally:
            self._action_groups = all_groups

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
            message = f"unknown option {unknown[1]}{nearest(unknown[1], known)} ({message})"
        raise ValueError(self._in_words(message))

    def _in_words(self, message: str) -> str:
        """Return a message about a field's type in the words of users; any other as it is."""
        found = re.match(
            r'Parser key "([\w.]+)":.*(?:Got value|Given value): (.*)', message, re.DOTALL
        )
        options = {action.dest: action for action in self._actions}
        option = options.get(found[1]) if found else None
        hint = getattr(option, "_typehint", None)
        if found is None or option is None or hint is None:
            return message
        words, told = type_in_words(hint), first_clause(option.help)
        if told and len(told) <= LONGEST_CLAUSE and "{" not in told:
            words += f" ({told})"  # such as its unit
        return f"{found[1]} must be {words}, got {found[2].strip()}"


def nearest(name: str, names: Sequence[str]) -> str:
    """Return "; nearest: NAME" for a mistyped name, or an empty text if none is near.

    Args:
        name: The name.
        names: Those that there are.
    """
    # "epoch" finds optim.epochs; of several fields with one name, the first counts.
    by_field = {known.rpartition(".")[2]: known for known in reversed(names)}
    found = difflib.get_close_matches(name, [*names, *by_field], n=1)
    if not found:
        return ""
    return f"; nearest: {found[0] if found[0] in names else by_field[found[0]]}"
