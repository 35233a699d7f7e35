"""The settings of a run as they are chosen, each with its reason; those given are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

GIVEN = "given"
"""The reason of a setting that the user has given."""


class Choice(NamedTuple):
    """A setting and why it has its value."""

    field: str
    """Its dotted name."""
    value: Any
    reason: str


class Choices:
    """Settings by their dotted names. A rule's value counts only where the user has given none.

    Args:
        given: What the user has given, by dotted name.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = dict(given)
        self._chosen: dict[str, Choice] = {}

    def choose(self, field: str, value: Any, reason: str) -> Any:
        """Choose a setting, or replace an earlier choice; return the value that counts.

        Args:
            field: Its dotted name.
            value: The value of the rule.
            reason: Why, in words for the user.
        """
        if field in self.given:
            value, reason = self.given[field], GIVEN
        self._chosen[field] = Choice(field, value, reason)
        return value

    def drop(self, field: str) -> None:
        """Take back a choice, if there is one."""
        self._chosen.pop(field, None)

    def __getitem__(self, field: str) -> Any:
        return self.given[field] if field in self.given else self._chosen[field].value

    def __iter__(self) -> Iterator[Choice]:
        return iter(self._chosen.values())

    def chosen(self) -> dict[str, Any]:
        """Return the settings that are chosen, not given, by dotted name."""
        return {choice.field: choice.value for choice in self if choice.field not in self.given}

    def table(self) -> str:
        """Return a line for each choice: setting, value, reason."""
        rows = [(choice.field, _shown(choice.value), choice.reason) for choice in self]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(
            f"  {field:<{first}}  {value:<{second}}  {reason}" for field, value, reason in rows
        )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return "null" if value is None else str(value)
