"""What `--help` shows: the options that matter first, and all of them with `--help_all`.

jsonargparse makes an option of each field of a configuration, with what its docstring says. This
gives each the name of its type, and chooses and shortens those that are shown.
"""

from __future__ import annotations

import copy
import re
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser, _HelpAction
from collections.abc import Iterable
from typing import Any

from jsonargparse import DefaultHelpFormatter

from .type_words import type_symbol


class HelpFormatter(DefaultHelpFormatter):
    """Shows an option as `--optim.epochs FLOAT`, and ends its text with the default."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 26, **options})  # type: ignore[no-untyped-call]

    def add_usage(self, usage: str | None, actions: Iterable[Action], *rest: Any) -> None:
        """Add the line that says how the command is called."""
        super().add_usage(usage_of(self._prog, actions), actions, *rest)

    def _metavar_formatter(self, action: Action, default_metavar: str) -> Any:
        hint, given = getattr(action, "_typehint", None), action.metavar
        # jsonargparse itself gives metavars such as {a,b} and [ITEM,...]
        is_given = isinstance(given, str) and given[:1] not in "{["
        if hint is None or is_given or not action.option_strings:
            return super()._metavar_formatter(action, default_metavar)
        return lambda size: (type_symbol(hint),) * size

    def _get_help_string(self, action: Action) -> str:
        text, default = (action.help or "").rstrip("."), action.default
        if action.required:
            return f"{text} (required)".strip()
        symbol = type_symbol(getattr(action, "_typehint", None))
        is_null = default is None and ("null" not in symbol or "null" in text)
        is_empty = default == SUPPRESS or default in ([], {}) or not action.option_strings
        # what is no value of the option, or is said
        is_told = is_empty or is_null or (default is False and "true|false" not in symbol)
        return text if is_told else f"{text} (default: {_in_yaml(default)})"

    def _format_action(self, action: Action) -> str:
        shown = copy.copy(action)
        shown.help = action.help or " "  # else jsonargparse adds the default by itself
        shown.option_strings = [name for name in action.option_strings if name[-1] != "+"]
        return super()._format_action(shown)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fill paragraphs, and leave those that are indented as they are."""
        parts = text.replace("``", "").strip().split("\n\n")
        filled = [part if "\n  " in part else textwrap.fill(part, width) for part in parts]
        return "\n\n".join(filled)


class BriefFormatter(HelpFormatter):
    """Shows the first clause of what is said of an option."""

    def _format_action(self, action: Action) -> str:
        shown = copy.copy(action)
        shown.help = first_clause(action.help)
        shown.default = SUPPRESS if action.default is None else action.default
        return super()._format_action(shown)


class HelpAll(_HelpAction):
    """The option `--help_all`: the help with all options."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Any,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print the help and exit."""
        parser.first = ()  # type: ignore[attr-defined]
        super().__call__(parser, namespace, values, option_string)


def usage_of(prog: str, actions: Iterable[Action]) -> str:
    """Return the line that says how a command is called, with what it requires.

    Args:
        prog: The command.
        actions: Its options.
    """
    words = [prog]
    for action in actions:
        name = action.metavar or action.dest
        if not action.option_strings:
            words.append(f"[{name}]" if action.nargs == "?" else f"{name} …")
        elif action.required:
            words.append(f"{action.option_strings[0]} …")
    return " ".join([*words, "[options]"])


def first_clause(text: str | None) -> str:
    """Return the begin of what is said of an option, without what is in brackets.

    Args:
        text: The text; None if nothing is said.
    """
    plain = re.sub(r" \([^)]*\)", "", text or "")
    return re.split(r"; |\. |: ", plain)[0].rstrip(".")


def _in_yaml(value: Any) -> str:
    """Return a default as it would be written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
