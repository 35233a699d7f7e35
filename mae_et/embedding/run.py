"""Compute the features of all images of a data set; read `embed` first."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ..config import EmbedConfig, RunConfig
from ..data import make_loader
from ..errors import ProcessStoppedError, check
from ..terminal import ImageBar
from ..training import main_process_first, make_accelerator
from .encoder import Encoder, open_encoder, warn_of_conflicts
from .images import ImagesToEmbed
from .output import job_file, join, written_files
from .parts import JOB, Part, PartBatches, Parts, changes, open_parts, parts_folder, read_job

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What was computed.

    Args:
        out: The file.
        num_images: Images with features.
        num_bad_images: Unreadable images, which have none.
        dim: Numbers of each vector.
    """

    out: Path
    num_images: int
    num_bad_images: int
    dim: int


def embed(checkpoint: str | Path, path: str, out: str | Path, **options: Any) -> Embedded | None:
    """Write the features of all images of a data set to a file.

    The rows are in the order of the data set, whatever the number of processes and workers.
    Unreadable images have no row; they are listed in ``OUT.bad_images.txt``. A call that was killed
    leaves ``OUT.parts``, from which the same call goes on.

    Args:
        checkpoint: A run, an encoder, a classifier, or weights, as for fine-tuning.
        path: The images, as data.path.
        out: The .parquet, .npy or .csv file.
        options: The further fields of `mae_et.config.EmbedConfig`: pool, split, image_size, mean,
            std, batch_size, num_workers, resume, overwrite, ….

    Returns:
        What was computed, in the main process; None in others.

    Raises:
        ValueError: An option, the checkpoint or the images are unusable, or the file exists.
        RunStoppedError: The file cannot be written.
    """
    config = EmbedConfig(checkpoint=str(checkpoint), path=path, out=str(out), **options)
    target = Path(config.out)
    accelerator = make_accelerator(
        RunConfig(mixed_precision=config.mixed_precision, tracker="none")
    )
    main_process_first(accelerator, lambda: _check_out(config, target))
    encoder = main_process_first(accelerator, lambda: open_encoder(config))
    images = main_process_first(accelerator, lambda: ImagesToEmbed(config, encoder.images))
    job = _describe(config, accelerator, encoder, images)
    opened = main_process_first(
        accelerator,
        lambda: _open(config, target, job) if accelerator.is_main_process else None,
    )
    state = [opened and (opened[0], opened[0].missing())]
    broadcast_object_list(state)
    if state[0] is None:
        return _finished(target, encoder.dim) if accelerator.is_main_process else None
    parts, missing = state[0]
    if accelerator.is_main_process:
        _say_before(config, encoder, images, parts, missing)
    _compute(config, accelerator, encoder, images, parts, missing)
    accelerator.wait_for_everyone()
    if opened is None:
        return None
    with opened[1]:  # the lock
        num_images, num_bad_images = join(parts, target, encoder.dim, job)
    return Embedded(
        out=target, num_images=num_images, num_bad_images=num_bad_images, dim=encoder.dim
    )


def _check_out(config: EmbedConfig, out: Path) -> None:
    """Check that nothing is at `out` but what may be replaced or gone on with.

    Raises:
        ValueError: There is something else, or nothing to resume.
    """
    found = [str(file) for file in written_files(out) if file.exists()]
    has_parts = (parts_folder(out) / JOB).exists()
    allowed = "new (--overwrite replaces it, --resume auto accepts what is finished)"
    ok = not found or has_parts or config.overwrite or bool(config.resume)
    check(ok, "--out", ", ".join(found), allowed)
    if config.resume is True:
        allowed = f"left out: there is nothing to go on with, no {parts_folder(out)} and no {out}"
        check(bool(found) or has_parts, "--resume", True, allowed)


def _describe(
    config: EmbedConfig, accelerator: Accelerator, encoder: Encoder, images: ImagesToEmbed
) -> dict[str, Any]:
    """Return what the features depend on, as plain data."""
    is_main = accelerator.is_main_process
    return {
        "checkpoint": str(Path(config.checkpoint).absolute()),
        "weights": encoder.digest() if is_main else "",
        "data": config.path,
        "images": images.digest() if is_main else "",
        "num_images": len(images),
        "layout": config.layout,
        "splits": [split.name for split in images.splits],
        "labels": [split.label_column for split in images.splits],
        "encoder": encoder.name,
        "pool": encoder.pool,
        "dim": encoder.dim,
        **{name: _plain(encoder.images[name]) for name in sorted(encoder.images)},
        "mixed_precision": accelerator.mixed_precision,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _open(config: EmbedConfig, out: Path, job: Mapping[str, Any]) -> tuple[Parts, IO[str]] | None:
    """Open the folder of parts, in the main process; see `open_parts`.

    Returns:
        The parts and their lock; None if the file is finished and may stay.

    Raises:
        ValueError: The file or the parts are of other features.
    """
    found = [file for file in written_files(out) if file.exists()]
    if config.resume and found and not (parts_folder(out) / JOB).exists():
        written = read_job(job_file(out))
        changed = changes(written["job"], job) if written else ["origin, which is unknown"]
        allowed = f"of the same features, not of another {', another '.join(changed)}"
        check(not changed, "--out", str(out), f"{allowed} (--overwrite replaces it)")
        return None
    return open_parts(parts_folder(out), job, config.batch_size, overwrite=config.overwrite)


def _finished(out: Path, dim: int) -> Embedded:
    """Say that there is nothing left to do, and return what there is."""
    written = read_job(job_file(out))
    print(f"{out} is finished, nothing is left to do", file=sys.stderr)
    return Embedded(
        out=out, num_images=written["rows"], num_bad_images=written["bad_images"], dim=dim
    )


def _say_before(
    config: EmbedConfig, encoder: Encoder, images: ImagesToEmbed, parts: Parts, missing: list[int]
) -> None:
    """Say what will be computed, and warn of what seems wrong with it."""
    warn_of_conflicts(config, encoder)
    images.warn_of_range(encoder.images)
    channels, height, width = encoder.images["input_size"]
    mean, std = ([round(v, 4) for v in encoder.images[name]] for name in ("mean", "std"))
    print(
        f"{len(images):,} images of {channels} × {height} × {width}, mean {mean}, std {std}; "
        f"{encoder.name}, pool {encoder.pool}: {encoder.dim} numbers each",
        file=sys.stderr,
    )
    if len(missing) < len(parts):
        done = len(parts) - len(missing)
        print(f"resuming: {done:,} of {len(parts):,} parts are there", file=sys.stderr)


def _compute(
    config: EmbedConfig,
    accelerator: Accelerator,
    encoder: Encoder,
    images: ImagesToEmbed,
    parts: Parts,
    missing: Sequence[int],
) -> None:
    """Compute this process's share of the missing parts."""
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    batches = PartBatches(parts, mine, config.batch_size)
    is_cuda = accelerator.device.type == "cuda"
    forward = encoder.on(accelerator)
    loader = make_loader(images.samples, batches, config.num_workers, is_cuda)
    chunks = iter(loader)
    total = sum(len(parts.images(part)) for part in missing)
    world, is_silent = accelerator.num_processes, not accelerator.is_main_process
    with ImageBar(total, is_silent=is_silent) as bar:
        for part in mine:
            numbers = parts.images(part)
            share = islice(chunks, batches.number_in(part))
            parts.write(part, _compute_part(forward, share, images, numbers))
            bar.add(min(len(numbers) * world, total - bar.done))  # others embed about as many


def _compute_part(
    forward: Callable[[Tensor], Tensor],
    chunks: Iterable[dict[str, Any]],
    images: ImagesToEmbed,
    numbers: range,
) -> Part:
    """Compute the features of consecutive images.

    Args:
        forward: Pixels -> features; see `Encoder.on`.
        chunks: Their batches, as the loader yields them.
        images: All images.
        numbers: The numbers of these.

    Raises:
        ProcessStoppedError: A label is none of the classes.
    """
    vectors, files, errors = list[Any](), list[str](), list[str]()
    for chunk in chunks:
        vectors.append(forward(chunk["image"]).cpu().numpy())
        files += chunk["file"]
        errors += chunk["error"]
    try:
        splits, labels = images.facts(numbers)
    except ValueError as error:  # of which the other processes know nothing
        raise ProcessStoppedError(str(error)) from error
    readable = [index for index, error in enumerate(errors) if not error]
    values = np.concatenate(vectors)[readable]
    broken = [files[readable[row]] for row in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    if broken:
        log.warning(
            "%d images have features that are not finite, such as %s; --run.mixed_precision no has "
            "a larger range",
            len(broken),
            broken[0],
        )
    return Part(
        files=[files[index] for index in readable],
        splits=[splits[index] for index in readable],
        labels=[labels[index] for index in readable] if images.has_labels else None,
        vectors=values,
        bad_images=[error for error in errors if error],
    )
