"""Automatic settings: a run from nothing but its images, and perhaps the hours it may take.

Read in this order: facts (what is found), rules (what follows from it, each rule with its source),
hours (what is tried and measured), resolver (the order of all this, and the table that is shown).
"""

from .choices import Choices
from .facts import look_at_machine
from .hours import speed_of
from .resolved import Resolved
from .resolver import resolve
from .rules import choose_machine

__all__ = ["Choices", "Resolved", "choose_machine", "look_at_machine", "resolve", "speed_of"]
