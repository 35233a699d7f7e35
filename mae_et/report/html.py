"""An HTML page that needs no other file: its parts as data, and the template that renders them.

The markup and the styles are in `page.html.jinja`, which escapes everything it is given. Pictures
that are SVGs have the colour of the page's text, in a light and in a dark page.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .palette import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SVG_STYLE = (
    "<style>svg { color: #1f2328; fill: currentColor }"
    " @media (prefers-color-scheme: dark) { svg { color: #e6e8eb } }</style>"
)


class Mark(NamedTuple):
    """How charts mark an arm: a colour, a shape as the path of an SVG, and the dashes of a line."""

    color: str
    shape: str
    dashes: str


class Name(NamedTuple):
    """A name with the mark that it has in the charts, in the cells of one or more rows."""

    text: str
    mark: Mark | None = None
    rows: int = 1


class Value(NamedTuple):
    """A number, with what stands behind it (' ± 0.1 (3)') and in a line below it."""

    number: str
    spread: str = ""
    note: str = ""


Cell: TypeAlias = str | Name | Sequence[Value]


@dataclass(frozen=True)
class Table:
    """A table, in which `Value`s are aligned as numbers.

    Args:
        header: Names of the columns; empty for a table without a header.
        rows: Cells by row and column. A cell of several rows is missing in all but the first.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numbers(self) -> set[int]:
        """The columns, counted from the right, that hold numbers: -1 is the last."""
        return {
            column - len(row)
            for row in self.rows
            for column, cell in enumerate(row)
            if not isinstance(cell, str | Name)
        }

    def spread(self, column: int) -> int:
        """Return the most characters behind a number of a column, which is as in `numbers`."""
        cells = [row[column] for row in self.rows if len(row) >= -column]
        values = [value for cell in cells if not isinstance(cell, str | Name) for value in cell]
        return max((len(value.spread) for value in values), default=0)


@dataclass(frozen=True)
class Picture:
    """An image within the page.

    Args:
        description: Text for those who can't see it.
        source: The content of the image, as a data URL.
        width: Its width in pixels of the page, if there is room.
    """

    description: str
    source: str
    width: int


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, or below each other where the page is narrow.

    Args:
        pictures: The pictures.
        caption: What to see in them.
        title: Their heading; empty for none.
        marks: The names of what is drawn.
        is_wide: Whether a narrow page scrolls sideways, since a picture shows nothing if small.
    """

    pictures: Sequence[Picture]
    caption: str
    title: str = ""
    marks: Sequence[Name] = ()
    is_wide: bool = False


class Part(NamedTuple):
    """A part of a bar: its share of the longest bar in [0, 1], its colours and what it is."""

    label: str
    share: float
    color: str
    is_dark: bool
    description: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, each made of parts.

    Args:
        rows: The name, the parts and the total of each bar.
        caption: What to see in them.
    """

    rows: Sequence[tuple[Name, Sequence[Part], str]]
    caption: str


Block: TypeAlias = str | Table | Pictures | Bars
"""A part of a section; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    heading: str
    blocks: Sequence[Block]


def embed(figure: Figure, description: str, kind: Literal["svg", "png"] = "svg") -> Picture:
    """Draw a figure as a separate image: SVGs within one document would share their names."""
    file = BytesIO()
    is_svg = kind == "svg"
    figure.savefig(file, format=kind, **({"transparent": True} if is_svg else {}))
    content = file.getvalue()
    if is_svg:
        text = content.decode().replace(INK, "currentColor")
        content = text.replace("<defs>", f"<defs>{SVG_STYLE}", 1).encode()
    types = {"svg": "image/svg+xml", "png": "image/png"}
    source = f"data:{types[kind]};base64,{b64encode(content).decode()}"
    return Picture(description, source, round(96 * figure.get_figwidth()))


def breakable(text: str) -> Markup:
    """Escape a text, and let lines break behind the underscores, slashes and dots of its names."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/])|(?<=[.:=])(?=[^\W\d])", text))


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
    kinds = {"table": Table, "pictures": Pictures, "bars": Bars, "name": Name}
    for name, kind in kinds.items():
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters["breakable"] = breakable
    environment.globals["INK"] = INK
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, sections=sections)
