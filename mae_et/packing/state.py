"""What a folder of packed images holds already.

Shards are written in the hidden folder .data, under a temporary name, get a name when they are
complete, and are then recorded in pack.json. When all are there, their names are made to state how
many they are, and the folder becomes data, which readers see. So a killed command loses one shard
at most, and nobody reads half of a data set.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import read_text
from ..errors import check
from ..runs import write_text
from .options import BAD_IMAGES, FINAL, FORMATS, HIDDEN, STATE, PackOptions

MOST_BYTES = 1 << 30
"""The most bytes of a list of bad images."""


@dataclass(kw_only=True)
class Part:
    """Consecutive rows of a split: those of a shard, or unreadable ones that make no shard."""

    split: str
    stop: int
    """The row after the last one."""
    resized: int = 0
    copied: int = 0
    unchanged: int = 0
    """Images that are no pictures of 8 bits."""
    bad: int = 0
    bytes_before: int = 0
    """Of the images that are packed, as they were."""
    bytes_after: int = 0

    @property
    def images(self) -> int:
        """Images of the shard."""
        return self.resized + self.copied + self.unchanged


@dataclass
class PackState:
    """The record of a folder. `open_state` makes it."""

    out: Path
    options: PackOptions
    digests: dict[str, str]
    """Of the images of each split."""
    parts: list[Part] = field(default_factory=list)
    is_finished: bool = False

    def start_of(self, split: str) -> int:
        """Return the first row of a split that is not packed."""
        return max((part.stop for part in self.parts if part.split == split), default=0)

    def num_shards(self, split: str) -> int:
        """Return the number of shards of a split so far."""
        return sum(part.split == split and part.images > 0 for part in self.parts)

    @property
    def folder(self) -> Path:
        """The folder of the shards."""
        hidden, final = self.out / HIDDEN, self.out / FINAL
        return final if final.exists() else hidden

    def _file(self, split: str, number: int) -> Path:
        """Where a shard is at first."""
        return self.folder / f"{split}-{number:05d}{FORMATS[self.options.format]}"

    def _final_file(self, split: str, number: int) -> Path:
        """Where a shard is in the end: the names of the Hub, which tell any split."""
        name = f"{split}-{number:05d}-of-{self.num_shards(split):05d}"
        return self.folder / f"{name}{FORMATS[self.options.format]}"

    def seal(self, part: Part, unfinished: Path | None, reasons: list[tuple[str, str]]) -> None:
        """Record a part whose shard has been written, under a temporary name.

        Args:
            part: The part.
            unfinished: The shard; None if all images of the part are unreadable.
            reasons: The name and the reason of each unreadable image of the part.
        """
        if unfinished is not None:
            unfinished.replace(self._file(part.split, self.num_shards(part.split)))
        if reasons:
            with (self.out / BAD_IMAGES).open("a", encoding="utf-8", errors="replace") as file:
                lines = (f"{name}\t{reason}".replace("\n", " ") for name, reason in reasons)
                file.writelines(f"{line}\n" for line in lines)
        self.parts.append(part)
        self.write()

    def finish(self) -> None:
        """Give all shards their names."""
        for split in self.digests:
            for number in range(self.num_shards(split)):
                file = self._file(split, number)
                if file.exists():
                    file.rename(self._final_file(split, number))
        self.folder.rename(self.out / FINAL)
        self.is_finished = True
        self.write()

    def write(self) -> None:
        """Write the record."""
        record = {
            "options": vars(self.options),
            "digests": self.digests,
            "is_finished": self.is_finished,
            "parts": [asdict(part) for part in self.parts],
        }
        write_text(self.out / STATE, json.dumps(record, indent=1))

    def check_files(self) -> None:
        """Check that all recorded shards are there, and cut off what else is in the list of images.

        Raises:
            ValueError: A shard is missing.
        """
        for split in self.digests:
            for number in range(self.num_shards(split)):
                files = (self._file(split, number), self._final_file(split, number))
                if not any(file.is_file() for file in files):
                    raise ValueError(
                        f"--out must hold all shards that {STATE} records, got {self.out} without "
                        f"{files[1].name}: remove the folder, and pack again"
                    )
        bad, listed = self.out / BAD_IMAGES, sum(part.bad for part in self.parts)
        lines = read_text(bad, most=MOST_BYTES).split("\n") if bad.exists() else []
        if lines[listed:] > [""]:  # killed between listing them and recording their shard
            write_text(bad, "".join(f"{line}\n" for line in lines[:listed]))


def open_state(out: Path, options: PackOptions, digests: dict[str, str]) -> PackState:
    """Open the record of a folder, or begin one.

    Args:
        out: The folder, which exists.
        options: What is asked for.
        digests: Digest of the images of each split.

    Raises:
        ValueError: The folder was begun with other options or images, or its record is damaged.
    """
    file = out / STATE
    if not file.exists():
        (out / HIDDEN).mkdir(exist_ok=True)
        state = PackState(out, options, digests)
        state.write()
        return state
    try:
        record: dict[str, Any] = json.loads(read_text(file, most=MOST_BYTES))
        begun, old = record["options"], record["digests"]
        parts = [Part(**part) for part in record["parts"]]
        is_finished = bool(record["is_finished"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} must be a record of pack, got {type(error).__name__}: {error}; remove {out}"
        ) from error
    options.check_begun(begun, out)
    same = f"the images with which {out} was begun, whose number, names or sizes differ from those"
    check(old == digests, "--data.path", ", ".join(digests), same)
    state = PackState(out, options, digests, parts, is_finished)
    state.check_files()
    return state
