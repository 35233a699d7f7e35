"""Photos in the formats of streaming loaders, which are written once, beside the photos' folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset


def files_of(folder: Path, number: int) -> list[str]:
    """So many photos of a folder, each as often as the others."""
    files = [str(file) for file in sorted(folder.rglob("*.jpg"))]
    return [files[index % len(files)] for index in range(number)]


class Files(Dataset[Any]):
    """Files that a function makes samples of."""

    def __init__(self, files: list[str], make: Callable[[str], Any]) -> None:
        self.files, self.make = files, make

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.files[index])


def encoded_file(file: str) -> dict[str, Any]:
    """The row of a file in LitData's chunks."""
    return {"image": Path(file).read_bytes()}


@cache
def litdata_chunks(folder: Path, number: int) -> Path:
    """Write the photos in the format of LitData."""
    target = folder.parent / "litdata"
    import_module("litdata").optimize(
        encoded_file, files_of(folder, number), str(target), num_workers=1, chunk_bytes="64MB"
    )
    return target


@cache
def mds_shards(folder: Path, number: int) -> Path:
    """Write the photos in the format of MosaicML streaming."""
    target = folder.parent / "mds"
    writer = import_module("streaming").MDSWriter(out=str(target), columns={"image": "bytes"})
    with writer:
        for file in files_of(folder, number):
            writer.write(encoded_file(file))
    return target


def picture(file: str) -> tuple[Image.Image]:
    """The row of a file in FFCV's format."""
    return (Image.open(file).convert("RGB"),)


@cache
def ffcv_file(folder: Path, number: int) -> Path:
    """Write the photos in the format of FFCV, as JPEG of quality 90."""
    target = folder.parent / "photos.beton"
    field = import_module("ffcv.fields").RGBImageField(write_mode="jpg", jpeg_quality=90)
    writer = import_module("ffcv.writer").DatasetWriter(
        str(target), {"image": field}, num_workers=1
    )
    writer.from_indexed_dataset(Files(files_of(folder, number), picture))
    return target
