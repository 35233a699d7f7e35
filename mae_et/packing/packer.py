"""Pack a data set: read, shrink in workers, write shards in order, measure, summarise."""

from __future__ import annotations

import errno
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import IO

from ..config import DataConfig
from ..data import Loader, allow_pixels, load_splits, local_path, worker_options
from ..errors import RunStoppedError, check
from ..runs import lock
from ..terminal import ImageBar
from ..workers import cpu_cores
from .columns import TarFields
from .options import BAD_IMAGES, HIDDEN, STATE, PackOptions, check_out
from .shards import Kept, ParquetShard, TarShard
from .source import Item, ShrunkRows, Source
from .speed import measure as measure_speed
from .state import PackState, Part, open_state
from .summary import PackSummary

log = logging.getLogger(__name__)

BATCH_ROWS = 8
"""Rows that a worker shrinks at a time; two such batches per worker are in memory."""

UNFINISHED = Path(HIDDEN, "unfinished.tmp")
"""The shard that is being written."""

AGAIN = "the same command goes on where it stopped"
"""What to do after packing was stopped."""


def pack(
    data: str,
    out: str | Path,
    *,
    short_side: int = 256,
    quality: int = 92,
    format: str = "parquet",
    shard_mb: float = 256,
    num_workers: int | None = None,
    measure: bool = True,
    layout: str = "auto",
    image_column: str | None = None,
    max_pixels: int = DataConfig.max_pixels,
) -> PackSummary:
    """Rewrite the images of a data set once, at the size that training needs, into shards.

    Splits, labels, further columns, the names of files and the order are kept. A call that was
    stopped goes on where it stopped.

    Args:
        data: The data set, as in `data.path`; not a stream.
        out: The folder of the shards, which is new, empty, or was begun with the same options.
        short_side: The most pixels of an image's shorter side; none is enlarged.
        quality: Quality of JPEG, 1 to 100; see `mae_et.data.shrink`.
        format: parquet or webdataset.
        shard_mb: MiB of images after which a shard ends.
        num_workers: Processes that shrink images; 0 for none but this one, None for one a core.
            What is written does not depend on it.
        measure: Whether to measure the speed of training's loader before and after.
        layout: As `data.layout`.
        image_column: As `data.image_column`.
        max_pixels: As `data.max_pixels`.

    Raises:
        ValueError: An option, the data or the folder is bad, or no image can be decoded.
        RunStoppedError: The disk is full, or a worker was killed.
    """
    options = PackOptions(
        layout=layout,
        image_column=image_column,
        short_side=short_side,
        quality=quality,
        format=format,
        shard_mb=shard_mb,
        max_pixels=max_pixels,
    )
    workers = cpu_cores() if num_workers is None else num_workers
    check(workers >= 0, "--num_workers", workers, "at least 0")
    out = Path(out)
    check_out(out, data)
    allow_pixels(max_pixels)
    splits = {name: rows for name, rows in load_splits(data, layout).items() if len(rows)}
    source = Source(splits, image_column, local_path(data))
    fields = TarFields(source.further, source.label) if format == "webdataset" else None
    with _locked(out):
        try:
            state = open_state(out, options, source.digests())
            if not state.is_finished:
                _Packer(source, state, fields, workers).run()
        except OSError as error:
            (out / UNFINISHED).unlink(missing_ok=True)
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            problem = "no space is left" if is_full else str(error)
            raise RunStoppedError(f"{out} can't be written: {problem}; {AGAIN}") from error
    summary = _summary(state, fields)
    if not measure:
        return summary
    split = next(iter(summary.images))
    speed = measure_speed(splits[split], split, summary.path, source.image, short_side, workers)
    return replace(summary, speed=speed)


def _locked(out: Path) -> IO[str]:
    """Make a folder, and lock it until what is returned is closed.

    Raises:
        ValueError: It can't be written, or another process packs into it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return lock(out / ".lock", "--out")
    except OSError as error:
        raise ValueError(f"--out must be a folder to write in, got {out} ({error})") from error


class _Packer:
    """Writes the shards that a folder lacks."""

    def __init__(
        self, source: Source, state: PackState, fields: TarFields | None, num_workers: int
    ) -> None:
        self.source, self.state, self.fields = source, state, fields
        self.num_workers = num_workers
        self.first_reason = ""

    def run(self) -> None:
        """Pack all splits.

        Raises:
            ValueError: No image can be decoded.
        """
        state, tables = self.state, self.source.tables
        done, total = sum(map(state.start_of, tables)), sum(map(len, tables.values()))
        with ImageBar(total, done=done, what="packed") as bar:
            for split in tables:
                self._pack_split(split, bar)
        if not any(part.images for part in state.parts):
            for name in (STATE, BAD_IMAGES):
                (state.out / name).unlink(missing_ok=True)
            shutil.rmtree(state.folder)
            raise ValueError(
                f"data.path must hold images, got {total} of which none is readable; first: "
                f"{self.first_reason}"
            )
        state.finish()

    def _pack_split(self, split: str, bar: ImageBar) -> None:
        start, options = self.state.start_of(split), self.state.options
        rows = ShrunkRows(self.source.tables[split], self.source.root, options)
        loader = Loader(
            rows,
            max_wait=None,
            advice=AGAIN.capitalize(),
            batch_size=BATCH_ROWS,
            sampler=range(start, len(rows.table)),
            collate_fn=list,
            **worker_options(self.num_workers),
        )
        if start == len(rows.table):
            return
        shard = _OpenShard(self, split, start)
        try:
            for items in loader:
                shard.add(items)
                bar.add(len(items))
                if shard.size >= options.shard_mb * 2**20:
                    shard.seal()
                    shard = _OpenShard(self, split, shard.part.stop)
            if shard.part.stop > shard.start:
                shard.seal()
        except BaseException:
            if shard.writer is not None:
                shard.writer.abandon()
            raise


class _OpenShard:
    """The shard that is being written, from some row of a split on."""

    def __init__(self, packer: _Packer, split: str, start: int) -> None:
        self.packer, self.start = packer, start
        self.part = Part(split=split, stop=start)
        self.size = 0
        self.reasons: list[tuple[str, str]] = []
        self.writer: ParquetShard | TarShard | None = None
        self.unfinished = packer.state.out / UNFINISHED

    def add(self, items: list[Item]) -> None:
        """Add the next rows."""
        first, part = self.part.stop, self.part
        part.stop += len(items)
        kept = list[Kept]()
        for row, item in enumerate(items, first):
            if item.shrunk is None:
                self.reasons.append((item.place, item.reason))
                continue
            kept.append(Kept(row, item.name, item.shrunk.content, item.shrunk.ending))
            setattr(part, item.shrunk.how, getattr(part, item.shrunk.how) + 1)
            part.bytes_before += item.size
            self.size += len(item.shrunk.content)
        if kept:
            self.writer = self.writer or self._open()
            rows = self.packer.source.rows_of(part.split, [image.row for image in kept])
            self.writer.add(kept, rows)

    def _open(self) -> ParquetShard | TarShard:
        source, fields = self.packer.source, self.packer.fields
        if fields is None:
            return ParquetShard(self.unfinished, source.image, source.further)
        return TarShard(self.unfinished, fields)

    def seal(self) -> None:
        """End the shard and record it."""
        part, self.part.bad = self.part, len(self.reasons)
        if self.writer is not None:
            part.bytes_after = self.writer.close()
        if self.reasons and not self.packer.first_reason:
            self.packer.first_reason = ": ".join(self.reasons[0])
        unfinished = self.unfinished if self.writer is not None else None
        self.packer.state.seal(part, unfinished, self.reasons)


def _summary(state: PackState, fields: TarFields | None) -> PackSummary:
    """Sum up the parts of a folder; a line warns of splits that have become none."""
    images = {
        split: sum(part.images for part in state.parts if part.split == split)
        for split in state.digests
    }
    for split, number in images.items():
        if not number:
            log.warning("the split %s has no readable image and is left out", split)

    def total(name: str) -> int:
        return sum(getattr(part, name) for part in state.parts)

    return PackSummary(
        out=state.out,
        format=state.options.format,
        images={split: number for split, number in images.items() if number},
        num_shards=sum(map(state.num_shards, images)),
        resized=total("resized"),
        copied=total("copied"),
        unchanged=total("unchanged"),
        bad_images=total("bad"),
        bytes_before=total("bytes_before"),
        bytes_after=total("bytes_after"),
        label_option="" if fields is None else fields.label_option,
    )
