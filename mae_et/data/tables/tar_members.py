"""The members of a WebDataset tar file, grouped into samples; nothing is unpacked or executed."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import first_line
from ..folders.layout import folders_inside, mixed_splits

log = logging.getLogger(__name__)

MAX_MEMBER = 1 << 30
"""The most bytes of a member."""

MAX_FIELDS, MAX_LAYOUTS = 200, 10_000
"""The most files of a sample, and the most different sets of endings in an archive."""

OPENERS: dict[bytes, Callable[[str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""The first bytes of a compressed file -> how it is opened."""


class Header(tarfile.TarInfo):
    """A member's header, of which only what is needed is read where it is a plain one.

    The standard library converts all fields and sums the bytes up twice, which takes most of the
    time of a pass over the headers.
    """

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Header:
        """Read a header as `tarfile.TarInfo.frombuf` does."""
        if len(buf) == 512 and buf[156:157] in (b"0", b"\0") and not buf[345] and buf[124] < 0x80:
            try:
                checksum, size = (
                    int(buf[a:b].strip(b" \0"), 8) for a, b in ((148, 156), (124, 136))
                )
            except ValueError:
                checksum = -1
            if checksum == sum(buf) - sum(buf[148:156]) + 8 * 0x20:
                header = cls(buf[:100].partition(b"\0")[0].decode(encoding, errors))
                header.size = size
                if not header.name.endswith("/"):  # a folder of the oldest archives
                    return header
        return super().frombuf(buf, encoding, errors)


class Member(NamedTuple):
    """A regular file of an archive that belongs to a sample."""

    key: str
    """The name of the sample: the member's name up to the first dot of its base name."""
    field: str
    """The rest of the name, such as jpg."""
    header: Header
    """Its header."""


@dataclass
class Contents:
    """What the headers of an archive tell."""

    layouts: Counter[frozenset[str]] = field(default_factory=Counter)
    """Sets of fields -> samples that have them."""
    others: Counter[str] = field(default_factory=Counter)
    """Members that belong to no sample, by kind."""
    is_complete: bool = False
    """Whether these are all samples."""

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return sum(self.layouts.values())


def split_name(name: str) -> tuple[str, str] | None:
    """Split a member's name into key and field, as WebDataset does; None if it has no field.

    Fields are in lower case, so that 0.cls and 1.CLS are of one column.
    """
    match = re.match(r"((?:.*/|)[^./][^./]*)\.([^/]+)$", name)
    return (match[1], match[2].lower()) if match else None


@contextmanager
def open_archive(file: str) -> Iterator[tuple[tarfile.TarFile, bool]]:
    """Open an archive; yields it, and whether it is compressed.

    Args:
        file: The file, which may be compressed by gzip, bzip2 or xz, whatever its name.

    Raises:
        ValueError: It can't be read; also if that is found out while it is open.
    """
    try:
        with Path(file).open("rb") as plain:
            start = plain.read(6)
        opener = next((way for magic, way in OPENERS.items() if start.startswith(magic)), None)
        with (
            opener(file) if opener else Path(file).open("rb") as opened,
            tarfile.open(fileobj=opened, mode="r:", tarinfo=Header) as archive,
        ):
            yield archive, opener is not None
    except ValueError:
        raise
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        lzma.LZMAError,
        MemoryError,
        OverflowError,
    ) as error:
        raise ValueError(f"{file} can't be read as a tar file: {first_line(error)}") from error


def read_members(file: str, archive: tarfile.TarFile, others: Counter[str]) -> Iterator[Member]:
    """Yield the members that belong to samples.

    Args:
        file: The name of the archive, for messages.
        archive: The archive.
        others: Counts the members that are passed over.

    Raises:
        ValueError: The archive is damaged.
    """
    for header in archive:
        archive.members = []  # type: ignore[attr-defined]  # which would grow
        if header.isdir():
            continue
        if header.name.rpartition("/")[2].startswith((".", "__")):
            others["hidden files"] += 1
            continue
        if not header.isreg():
            others["links and devices"] += 1
            continue
        named = split_name(header.name)
        if named is None:
            others["files without an ending"] += 1
            continue
        if header.size > MAX_MEMBER:
            raise ValueError(
                f"{file} has {header.name} of {header.size >> 20} MiB, which is no image"
            )
        assert isinstance(header, Header)
        yield Member(*named, header)
    _check_end(file, archive)


def _check_end(file: str, archive: tarfile.TarFile) -> None:
    """Check that the archive ends as it should: `tarfile` takes a damaged header for the end."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    block, rest = archive.fileobj.read(512), archive.fileobj.read(1 << 16)
    if not block:
        log.warning("%s ends without the mark of a tar file's end: is it cut off?", file)
    elif block.strip(b"\0"):
        raise ValueError(f"{file} is damaged at byte {archive.offset}: no header of a tar file")
    elif rest.strip(b"\0"):
        raise ValueError(
            f"{file} goes on after its end at byte {archive.offset}: name several tar files by a "
            "pattern, or join them with tar --concatenate"
        )


def scan(file: str, most: int | None = None) -> Contents:
    """Read the headers of an archive; see `Contents`.

    Args:
        file: The file.
        most: The most samples to read, for a compressed file; None for all.

    Raises:
        ValueError: The archive is damaged, or its samples are not as WebDataset has them.
    """
    status = Path(file).stat()
    return _scan(file, most, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _scan(file: str, most: int | None, size: int, time: int) -> Contents:
    contents = Contents()
    keys: set[str] = set()
    folders: set[str] = set()
    with open_archive(file) as (archive, is_compressed):
        members = read_members(file, archive, contents.others)
        samples = groupby(members, key=lambda member: member.key)
        for key, of_key in islice(samples, most if is_compressed else None):
            fields = [member.field for member in of_key]
            if len(set(fields)) < len(fields):
                name = next(f"{key}.{name}" for name in fields if fields.count(name) > 1)
                raise ValueError(f"{file} holds {name} twice")
            contents.layouts[frozenset(fields)] += 1
            if key in keys:
                raise ValueError(
                    f"{file} holds files of the sample {key} in several places: those of a sample "
                    "must follow each other, as in a tar file of sorted names"
                )
            keys.add(key)
            folders.add(key.rpartition("/")[0].removeprefix("./"))
            if len(fields) > MAX_FIELDS or len(contents.layouts) > MAX_LAYOUTS:
                raise ValueError(
                    f"{file} has too many different endings, such as that of {key}.{fields[0]}: "
                    "a sample's name ends at the first dot, and the rest is the ending"
                )
        contents.is_complete = most is None or not is_compressed
    _check_one_split(file, folders)
    return contents


def _check_one_split(file: str, folders: set[str]) -> None:
    """Check that the folders of the members are not several splits, which would be mixed."""
    for inside in folders_inside(folders).values():
        if said := mixed_splits(inside):
            raise ValueError(
                f"{file} holds the folders {', '.join(sorted(said)[:5])}, as of several splits: "
                "write a tar file of each, or unpack it and read the folder"
            )
