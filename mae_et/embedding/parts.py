"""The parts of the features while they are computed, which a later start goes on with.

    OUT.parts/job.json               the checkpoint, images and options that they are of
    OUT.parts/part_00000000.parquet  the images 0 … size - 1, and so on; written, then renamed
    OUT.parts/.lock                  locked by the process that fills the folder

Parts do not depend on the number of processes: each is made by one, in the same batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import parse_json, read_text
from ..errors import ProcessStoppedError, check
from ..runs import lock, remove_folder, write_text

BAD_IMAGES = b"bad_images"
"""The key under which a part lists its unreadable images, in the metadata of its file."""

MOST_IMAGES = 4096
"""The most images of a part: what a kill costs a process, and what it holds in memory."""

JOB = "job.json"

LEAST_PARTS = 64
"""How many parts there are at least, if batches are small enough: for as many processes."""

PLACES = {"checkpoint": "weights", "data": "images"}
"""Entries of a job that say where something is, which may move, and those that say what it is."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The readable images of a part, and the unreadable ones.

    Args:
        files: Names of the readable images.
        splits: Their splits.
        labels: The names of their classes; None if the data set has no labels.
        vectors: (n, D) float32.
        bad_images: What is wrong with each unreadable image, a line each.
    """

    files: Sequence[str]
    splits: Sequence[str]
    labels: Sequence[str | None] | None
    vectors: Any
    bad_images: Sequence[str]

    def table(self) -> pa.Table:
        """Return the readable images as columns: file, split, label (if any) and vector."""
        values = pa.array(np.ascontiguousarray(self.vectors, np.float32).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(values, self.vectors.shape[1])
        columns = {"file": pa.array(self.files, pa.string())}
        columns["split"] = pa.array(self.splits, pa.string())
        if self.labels is not None:
            columns["label"] = pa.array(self.labels, pa.string())
        return pa.table({**columns, "vector": vectors})


class Parts:
    """The folder of parts.

    Args:
        folder: The folder.
        num_images: Images of all parts, the unreadable ones included.
        size: Images of a part, but perhaps the last.
    """

    def __init__(self, folder: Path, num_images: int, size: int) -> None:
        self.folder = folder
        self.num_images = num_images
        self.size = size

    def __len__(self) -> int:
        return -(-self.num_images // self.size)

    def images(self, part: int) -> range:
        """Return the numbers of the images of a part."""
        return range(part * self.size, min((part + 1) * self.size, self.num_images))

    def file(self, part: int) -> Path:
        """Return the file of a part, which need not exist."""
        return self.folder / f"part_{part:08d}.parquet"

    def missing(self) -> list[int]:
        """Return the parts that are still to be computed; damaged ones are, too."""
        return [part for part in range(len(self)) if not self._is_whole(part)]

    def _is_whole(self, part: int) -> bool:
        """Return whether a part is there with all of its images."""
        try:
            file = pq.read_metadata(self.file(part))
            bad_images = json.loads(file.metadata[BAD_IMAGES])
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
            return False
        return bool(file.num_rows + len(bad_images) == len(self.images(part)))

    def write(self, part: int, content: Part) -> None:
        """Write a part: under another name, and renamed when it is whole.

        Raises:
            ProcessStoppedError: It cannot be written.
        """
        table = content.table()
        table = table.replace_schema_metadata({BAD_IMAGES: json.dumps(list(content.bad_images))})
        file = self.file(part)
        unfinished = file.with_suffix(".tmp")
        try:
            pq.write_table(table, unfinished)
            unfinished.replace(file)
        except OSError as error:
            raise ProcessStoppedError(f"{file} can't be written ({error})") from error

    def tables(self) -> Iterator[pa.Table]:
        """Yield the parts in order; see `Part.table`."""
        for part in range(len(self)):
            yield pq.read_table(self.file(part), memory_map=False).replace_schema_metadata(None)

    def num_rows(self) -> int:
        """Return the number of readable images."""
        files = (self.file(part) for part in range(len(self)))
        return sum(pq.read_metadata(file).num_rows for file in files)

    def bad_images(self) -> Iterator[str]:
        """Yield a line for each unreadable image, in the order of the images."""
        for part in range(len(self)):
            yield from json.loads(pq.read_schema(self.file(part)).metadata[BAD_IMAGES])

    def remove(self) -> None:
        """Remove the folder."""
        remove_folder(self.folder)


class PartBatches:
    """The image numbers of each batch of some parts, without a list of all.

    Args:
        parts: All parts.
        chosen: The numbers of these.
        batch_size: The most images of a batch.
    """

    def __init__(self, parts: Parts, chosen: Sequence[int], batch_size: int) -> None:
        self.parts = parts
        self.chosen = chosen
        self.batch_size = batch_size

    def __len__(self) -> int:
        return sum(map(self.number_in, self.chosen))

    def number_in(self, part: int) -> int:
        """Return the number of batches of a part."""
        return -(-len(self.parts.images(part)) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for part in self.chosen:
            images = self.parts.images(part)
            for start in range(0, len(images), self.batch_size):
                yield list(images[start : start + self.batch_size])


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of a file of features."""
    return out.with_name(out.name + ".parts")


def open_parts(
    folder: Path, job: Mapping[str, Any], batch_size: int, *, overwrite: bool
) -> tuple[Parts, IO[str]]:
    """Open the folder of parts, and begin one if there is none of the same job.

    Args:
        folder: The folder.
        job: What the parts are of, as plain data with the number of "images".
        batch_size: Images that are embedded at a time; parts are begun with a multiple of it.
        overwrite: Whether to remove the parts of another job.

    Returns:
        The parts, and a file that is locked until it is closed.

    Raises:
        ValueError: The parts are of another job, or another process is computing them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out must be a file to write, got {folder} ({error})") from error
    locked = lock(folder / ".lock", "--out")
    try:
        written = {} if overwrite and not _is_sound(folder) else read_job(folder / JOB)
        changed = changes(written["job"], job) if written else []
        if changed and not overwrite:
            raise ValueError(
                f"--out must have no parts of other features, got {folder} with another "
                f"{', another '.join(changed)}; --overwrite starts again"
            )
        if changed or not written:
            for file in folder.glob("part_*"):
                file.unlink()
            size = _part_size(job["num_images"], batch_size)
            written = {"job": dict(job), "part_size": size}
            write_text(folder / JOB, json.dumps(written, indent=2) + "\n")
    except BaseException:
        locked.close()
        raise
    return Parts(folder, job["num_images"], written["part_size"]), locked


def _is_sound(folder: Path) -> bool:
    """Return whether the job of a folder of parts can be read."""
    try:
        return bool(read_job(folder / JOB))
    except ValueError:
        return False


def read_job(file: Path) -> dict[str, Any]:
    """Read the file that says what features are of; return an empty dict if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        written = parse_json(read_text(file))
        check(isinstance(written["job"], dict), "job", written["job"], "a mapping")
        check(written.get("part_size", 1) > 0, "part_size", written.get("part_size"), "above 0")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); --overwrite does not need it") from error
    return dict(written)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two jobs, in words: "checkpoint (a, now b)", …."""
    kept = {*PLACES, *PLACES.values(), "num_images"}
    options = [
        f"{name} ({old.get(name)}, now {value})"
        for name, value in new.items()
        if name not in kept and old.get(name) != value
    ]
    places = []
    for place, what in PLACES.items():
        is_moved = old.get(place) != new[place]
        if old.get(what) == new[what] or (options and not is_moved):
            continue  # an option has changed which weights, or which images, are used
        now = f"now {new[place]}" if is_moved else "changed since"
        places.append(f"{place} ({old.get(place)}, {now})")
    return places + options


def _part_size(num_images: int, batch_size: int) -> int:
    """Choose the images of a part: whole batches, and enough parts for many processes."""
    wanted = min(MOST_IMAGES, max(batch_size, -(-num_images // LEAST_PARTS)))
    return -(-wanted // batch_size) * batch_size
