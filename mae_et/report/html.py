"""A page of HTML that needs no other file: its tables, its figures, its look."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from string import Template
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DOCUMENT = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; text-align: left; vertical-align: top; white-space: pre-line;
  border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
td { overflow-wrap: anywhere; min-width: 4rem; } td:first-child { min-width: 10rem; }
.dot { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 50%;
  margin-right: 0.4rem; }
img { max-width: 100%; background: white; border-radius: 4px; }
p { max-width: 45rem; font-size: 0.9rem; opacity: 0.85; }
@media print { body { margin: 0; max-width: none; } img, tr { break-inside: avoid; }
  .dot { print-color-adjust: exact; } }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


class Cell(NamedTuple):
    """A table's cell with a coloured dot."""

    text: str
    color: str


def document(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The page of sections, (heading, HTML) each."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{html}" for heading, html in sections)
    return DOCUMENT.substitute(title=escape(title), body=body)


def paragraph(text: str) -> str:
    """Text, not HTML."""
    return f"<p>{escape(text)}</p>\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> str:
    """A table of texts; line breaks in them are kept."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    body = "\n".join(lines)
    return f'<div class="wide"><table>{top}<tbody>\n{body}\n</tbody></table></div>\n'


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, Cell):
        dot = f'<span class="dot" style="background:{escape(cell.color)}"></span>'
        return f"<td>{dot}{escape(cell.text)}</td>"
    return f"<td>{escape(cell)}</td>"


def figure(drawn: Figure, description: str, kind: Literal["svg", "png"] = "svg") -> str:
    """A picture within the page; as an image of its own, so that no two share names."""
    file = BytesIO()
    drawn.savefig(file, format=kind, facecolor="white")
    types = {"svg": "image/svg+xml", "png": "image/png"}
    content = b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:{types[kind]};base64,{content}">\n'
