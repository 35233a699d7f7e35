"""The code blocks of README.md and docs/, and what the comment above each says about it.

<!-- not run: why -->        the block is not run, for the reason that it gives
<!-- before: CODE -->        Python that runs before the block, for what the reader has
<!-- options of: COMMAND --> the block holds options of that command (else of `PRETRAIN`)
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PRETRAIN = "mae-et pretrain --config et_vit_b_16 --data.path /data"

BLOCK = re.compile(
    r"^(?:<!-- (?P<word>not run|before|options of): (?P<note>[^\n]*) -->\n)?"
    r"^(?P<indent> *)```(?P<language>bash|python)\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A code block, with where it stands and the comment above it."""

    place: str
    language: str
    code: str
    word: str
    note: str

    @property
    def commands(self) -> Iterator[list[str]]:
        """The words of each command line; options alone are those of the command in the note."""
        lines = self.code.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        if self.code.lstrip().startswith("--"):
            command = self.note if self.word == "options of" else PRETRAIN
            yield [*shlex.split(command), *(word for line in words for word in line)]
        else:
            yield from filter(None, words)


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of Python and shell of a page, in order."""
    text, found = page.read_text(), []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        place = f"{page.relative_to(ROOT)}:{line}"
        word, note = match["word"] or "", match["note"] or ""
        language = match["language"]
        found.append(Block(place=place, language=language, code=code, word=word, note=note))
    return found
