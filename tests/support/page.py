"""A page of HTML, parsed."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The rows of a page's tables, its text, pictures, tags, and everything that it would fetch.

    `unaligned` are cells that hold a number that was measured, and are not aligned as one.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.unaligned: list[str] = []
        self.is_number = False
        self.is_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= dict(attributes).keys()
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.is_cell = True
            self.is_number = dict(attributes).get("class") == "number"
        source = dict(attributes).get("src") or dict(attributes).get("href") or ""
        (self.pictures if source.startswith("data:image/") else self.fetched).append(source)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.rows[-1][-1] = self.rows[-1][-1].strip()
            if re.match(r"[\d.,]+( ± | \(|%)", self.rows[-1][-1]) and not self.is_number:
                self.unaligned.append(self.rows[-1][-1])
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.is_cell:
            self.rows[-1][-1] += data
