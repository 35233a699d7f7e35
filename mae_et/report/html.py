"""An HTML page that needs no other file: its parts as data, and the template that renders them.

The markup and the styles are in `page.html.jinja`, which escapes everything it is given.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cell(NamedTuple):
    """A table cell with a coloured dot."""

    text: str
    color: str


@dataclass(frozen=True)
class Table:
    """A table of texts, which keep their line breaks.

    Args:
        header: Names of the columns; empty for a table without a header.
        rows: Cells by row and column.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Picture:
    """An image within the page.

    Args:
        description: Text for those who can't see it.
        source: The content of the image, as a data URL.
    """

    description: str
    source: str


Block: TypeAlias = str | Table | Picture
"""A part of a section; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    heading: str
    blocks: Sequence[Block]


def embed(figure: Figure, description: str, kind: Literal["svg", "png"] = "svg") -> Picture:
    """Draw a figure as a separate image: SVGs within one document would share their names."""
    file = BytesIO()
    figure.savefig(file, format=kind, facecolor="white")
    types = {"svg": "image/svg+xml", "png": "image/png"}
    content = b64encode(file.getvalue()).decode()
    return Picture(description, f"data:{types[kind]};base64,{content}")


def render(title: str, sections: Sequence[Section]) -> str:
    """Render the page; every text in it is shown verbatim, whatever characters it has."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["table"] = lambda block: isinstance(block, Table)
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, sections=sections)
