"""WebDataset tar files as a table: a row for each sample, with its image whatever its ending."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import datasets
import pyarrow as pa

from ..images import ORIGIN
from ..images.endings import image_endings
from .files import short_names
from .parquet import BATCH_BYTES, MAX_BATCH_ROWS
from .tar_members import Contents, open_archive, read_members, scan

log = logging.getLogger(__name__)

TEXTS = ("txt", "text", "transcript", "caption", "json", "jsn", "label")
"""Endings of members that are text; JSON stays text, since its fields may differ. A .label is the
name of a class, even if it looks like a number."""

NUMBERS = ("cls", "cls2", "index", "inx", "id")
"""Endings of members that are numbers, or else the names of classes."""

FIRST_SAMPLES = 200
"""Samples of a compressed file that tell the columns of a stream."""

MIXED = "image"
"""The column of images of samples whose endings differ."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What becomes of the members of a sample."""

    images: tuple[str, ...]
    """The columns of images. A single one has the sample's image, whatever its ending."""
    texts: tuple[str, ...]
    """Columns of text."""
    numbers: tuple[str, ...]
    """Columns of whole numbers."""
    files: tuple[str, ...]
    """Columns of undecoded bytes."""


class TarTable(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Reads WebDataset tar files for `datasets`.

    The builder of `datasets` takes the columns from the first five samples, and so samples whose
    images have another ending for samples without one; and it takes a file of this machine for a
    member of the same name. This one looks at all headers first, and builds tables of what is in
    the members. None is unpacked to disk, unpickled or executed.
    """

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        """Check all headers, and find the features of the table.

        Raises:
            ValueError: A file is damaged, or its samples are not as WebDataset has them.
        """
        splits = {str(name): list(files) for name, files in self.config.data_files.items()}
        files = [file for of_split in splits.values() for file in of_split]
        most = FIRST_SAMPLES if dl_manager.is_streaming else None
        contents = [scan(file, most) for file in files]
        layouts = sum((part.layouts for part in contents), Counter[frozenset[str]]())
        if not layouts:
            raise ValueError(f"{files[0]} holds no samples, files with an ending such as 0001.jpg")
        self.columns = choose_columns(layouts, _are_numbers(files[0]))
        _tell_unused(files[0], self.columns, contents)
        if len(self.columns.images) > 1:
            log.warning(
                "the samples of %s have several images, as columns %s: a sample's name ends at the "
                "first dot of a file's, and what follows is its column",
                files[0],
                ", ".join(self.columns.images[:5]),
            )
        kinds: dict[str, Any] = dict.fromkeys(self.columns.images, datasets.Image())
        kinds |= dict.fromkeys(self.columns.texts, datasets.Value("string"))
        kinds |= dict.fromkeys(self.columns.numbers, datasets.Value("int64"))
        kinds |= dict.fromkeys(self.columns.files, datasets.Value("binary"))
        kinds |= dict.fromkeys(("__key__", "__url__", ORIGIN), datasets.Value("string"))
        self.info.features = datasets.Features(kinds)
        short = dict(zip(files, short_names(files), strict=True))
        return [
            datasets.SplitGenerator(
                name=name, gen_kwargs={"files": [(file, short[file]) for file in of_split]}
            )
            for name, of_split in splits.items()
        ]

    def _generate_tables(self, files: Sequence[tuple[str, str]]) -> Iterator[tuple[str, pa.Table]]:
        for number, (file, name) in enumerate(files):
            samples = enumerate(_read_samples(file, self.columns))
            rows = ({**row, "__url__": file, ORIGIN: f"{name} row {n}"} for n, row in samples)
            for batch, part in enumerate(_in_batches(rows)):
                table = pa.Table.from_pylist(part, schema=self.info.features.arrow_schema)
                yield f"{number}_{batch}", table


def _in_batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide rows into batches of about `BATCH_BYTES`, and at most `MAX_BATCH_ROWS`."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(cell["bytes"]) for cell in row.values() if isinstance(cell, dict))
        if size >= BATCH_BYTES or len(batch) >= MAX_BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_samples(file: str) -> int | None:
    """Count the samples of a tar file by its headers; None for a compressed one.

    Raises:
        ValueError: The file is damaged.
    """
    contents = scan(file, FIRST_SAMPLES)
    return contents.num_samples if contents.is_complete else None


def choose_columns(
    layouts: Mapping[frozenset[str], int], are_numbers: Mapping[str, bool]
) -> Columns:
    """Choose the columns of a table of samples.

    Args:
        layouts: The sets of fields that samples have.
        are_numbers: Whether fields whose ending is one of `NUMBERS` are numbers.
    """
    fields = sorted(set().union(*layouts))
    own = [own_images(layout) for layout in layouts]
    images = tuple(sorted({name for names in own for name in names}))
    if len(images) > 1 and max(map(len, own)) == 1 and MIXED not in fields:
        images = (MIXED,)
    taken = {name for names in own for name in names}
    rest = [name for name in fields if name not in taken]
    texts = [name for name in rest if _ending(name) in TEXTS]
    numbers = [name for name in rest if _ending(name) in NUMBERS]
    decoded = {*texts, *numbers}
    files = [
        name for name in rest if name not in decoded and (not images or _ending(name) == "npy")
    ]
    return Columns(
        images=images,
        texts=tuple(texts + [name for name in numbers if not are_numbers.get(name, True)]),
        numbers=tuple(name for name in numbers if are_numbers.get(name, True)),
        files=tuple(files),
    )


def own_images(fields: Iterable[str]) -> list[str]:
    """The fields of a sample that are its images: pictures, or else .npy files."""
    pictures = sorted(name for name in fields if f".{_ending(name)}" in image_endings() - {".npy"})
    return pictures or sorted(name for name in fields if _ending(name) == "npy")


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _read_samples(file: str, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield the samples of a file, with the columns that they have."""
    with open_archive(file) as (archive, _):
        members = read_members(file, archive, Counter())
        for key, of_key in groupby(members, key=lambda member: member.key):
            sample: dict[str, Any] = {"__key__": key}
            content: dict[str, bytes] = {}
            for member in of_key:
                opened = archive.extractfile(member.header)
                assert opened is not None
                content[member.field] = opened.read()
            own = own_images(content)
            for name in own:
                column = columns.images[0] if len(columns.images) == len(own) == 1 else name
                if column in columns.images:
                    sample[column] = {"bytes": content[name], "path": f"{key}.{name}"}
            for name in columns.texts:
                if name in content:
                    text = content[name].decode("utf-8", "replace")
                    sample[name] = text.strip() if _ending(name) in NUMBERS else text
            for name in columns.numbers:
                if name in content:
                    sample[name] = _number(file, f"{key}.{name}", content[name])
            sample |= {name: content[name] for name in columns.files if name in content}
            yield sample


def _number(file: str, name: str, content: bytes) -> int:
    try:
        return int(content)
    except ValueError:
        shown = content[:30].decode("utf-8", "replace")
        raise ValueError(
            f"{file} must hold a whole number in {name}, as in its first samples, got {shown!r}"
        ) from None


def _are_numbers(file: str) -> dict[str, bool]:
    """Whether the fields of the first samples that may be numbers are whole numbers."""
    found: dict[str, bool] = {}
    with open_archive(file) as (archive, _):
        for index, member in enumerate(read_members(file, archive, Counter())):
            if _ending(member.field) in NUMBERS and member.field not in found:
                opened = archive.extractfile(member.header)
                assert opened is not None
                text = opened.read(64).strip()
                found[member.field] = text.lstrip(b"-").isdigit() and len(text) < 19
            if index >= FIRST_SAMPLES:
                break
    return found


def _tell_unused(file: str, columns: Columns, contents: Sequence[Contents]) -> None:
    """Say what of the archives becomes no column."""
    used = {*columns.texts, *columns.numbers, *columns.files}
    unused: Counter[str] = Counter()
    for part in contents:
        unused.update(part.others)
        for layout, number in part.layouts.items():
            for name in layout - used - set(own_images(layout)):
                unused[f".{_ending(name)}"] += number
    if unused:
        counts = ", ".join(f"{number} {kind}" for kind, number in unused.most_common(5))
        rest = f" and {len(unused) - 5} other kinds" if len(unused) > 5 else ""
        log.warning("not used of %s and the tar files beside it: %s%s", file, counts, rest)
