"""Loaders that people choose for speed, each in the way that its documentation shows.

All of them make the same: a random crop of 20 to 100 % of the area (sides 3:4 to 4:3), resized to
`size`, half of them mirrored, in batches of uint8 (N, 3, size, size). They differ in the resize:

- bicubic, antialiased, as ours: torchvision v2, LitData, MosaicML streaming, DALI
- triangular (bilinear, antialiased), as in NVIDIA's example for ImageNet: "DALI linear"
- bicubic of FFmpeg: SPDL
- the mean of pixels (cv2.INTER_AREA): OpenCV, FFCV

DALI and FFCV decode with simpler upsampling of colours than libjpeg's default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from mae_et import data

from .photo_formats import Files, ffcv_file, files_of, litdata_chunks, mds_shards
from .pipelines import BATCH_SIZE, CROP_SCALE, Pipeline, forked

RATIOS = (3 / 4, 4 / 3)


def torch_loader(
    folder: Path, number: int, workers: int, make: Callable[[str], Any]
) -> Iterable[Any]:
    """PyTorch's loader of what a function makes of files."""
    files = Files(files_of(folder, number), make)
    return DataLoader(
        files, BATCH_SIZE, num_workers=workers, multiprocessing_context=forked(workers)
    )


def crop_and_flip(size: int) -> v2.Compose:
    """The transform of torchvision for tensors."""
    bicubic = v2.InterpolationMode.BICUBIC
    crop = v2.RandomResizedCrop(size, CROP_SCALE, RATIOS, interpolation=bicubic, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip()])


def with_torchvision_v2(size: int) -> Pipeline:
    """Torchvision's own decoder and its transforms of uint8 tensors."""
    transform = crop_and_flip(size)

    def make(file: str) -> Any:
        return transform(decode_jpeg(read_file(file), ImageReadMode.RGB))

    return partial(torch_loader, make=make)


def with_opencv(size: int) -> Pipeline:
    """OpenCV, as Albumentations uses it; the box is drawn in our way, which is the faster one."""
    cv2 = import_module("cv2")
    cv2.setNumThreads(0)

    def make(file: str) -> Any:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR_RGB)
        top, left, height, width = data.random_box(image.shape[0], image.shape[1], CROP_SCALE)
        image = image[top : top + height, left : left + width]
        way = cv2.INTER_AREA if min(height, width) > size else cv2.INTER_CUBIC
        image = cv2.resize(image, (size, size), interpolation=way)
        if torch.rand(()).item() < 0.5:
            image = cv2.flip(image, 1)
        return torch.from_numpy(image.transpose(2, 0, 1))

    return partial(torch_loader, make=make)


def with_dali(size: int, kind: str) -> Pipeline:
    """NVIDIA DALI on the CPU: it decodes the rows and columns of the crop alone.

    Args:
        size: Size of the images in pixels.
        kind: CUBIC or TRIANGULAR.
    """
    dali, fn, types = (import_module(f"nvidia.dali{name}") for name in ("", ".fn", ".types"))

    @dali.pipeline_def(batch_size=BATCH_SIZE, device_id=None, seed=0)  # type: ignore[untyped-decorator]
    def pipeline(files: list[str]) -> Any:
        encoded, _ = fn.readers.file(files=files)
        images = fn.decoders.image_random_crop(
            encoded, random_area=CROP_SCALE, random_aspect_ratio=RATIOS, output_type=types.RGB
        )
        way = getattr(types, f"INTERP_{kind}")
        images = fn.resize(images, size=(size, size), interp_type=way, antialias=True)
        return fn.crop_mirror_normalize(
            images,
            mirror=fn.random.coin_flip(),
            dtype=types.UINT8,
            output_layout="CHW",
            mean=[0.0] * 3,
            std=[1.0] * 3,
        )

    def load(folder: Path, number: int, workers: int) -> Iterator[Any]:
        built = pipeline(files_of(folder, number), num_threads=max(1, workers))
        built.build()
        built.run()  # so that as many batches are read ahead before as after the measurement
        return (
            torch.utils.dlpack.from_dlpack(built.run()[0].as_tensor())
            for _ in range(number // BATCH_SIZE)
        )

    return load


def with_spdl(size: int) -> Pipeline:
    """SPDL: FFmpeg in threads, without Python's lock."""
    io = import_module("spdl.io")

    def make(file: str) -> Any:
        packets = io.demux_image(file)
        top, left, height, width = data.random_box(packets.height, packets.width, CROP_SCALE)
        steps = [f"crop={width}:{height}:{left}:{top}", f"scale={size}:{size}:flags=bicubic"]
        steps += ["hflip"] if torch.rand(()).item() < 0.5 else []
        chain = ",".join([*steps, "format=pix_fmts=rgb24"])
        return io.decode_packets(packets, filter_desc=chain)

    def batch(files: list[str], threads: ThreadPoolExecutor) -> Any:
        frames = io.convert_frames(list(threads.map(make, files)))
        return torch.from_numpy(io.to_numpy(frames)).permute(0, 3, 1, 2).contiguous()

    def load(folder: Path, number: int, workers: int) -> Iterator[Any]:
        files = files_of(folder, number)
        with ThreadPoolExecutor(max(1, workers)) as threads:
            for first in range(0, number, BATCH_SIZE):
                yield batch(files[first : first + BATCH_SIZE], threads)

    return load


def with_stream(size: int, open_stream: Callable[[Path, int], Any]) -> Pipeline:
    """A streaming data set of encoded photos, decoded by torchvision.

    Args:
        size: Size of the images in pixels.
        open_stream: (folder of photos, number of images) -> streaming data set, and its loader.
    """
    transform = crop_and_flip(size)

    def collate(rows: list[dict[str, Any]]) -> Any:
        buffers = [torch.frombuffer(bytearray(row["image"]), dtype=torch.uint8) for row in rows]
        return torch.stack([transform(decode_jpeg(each, ImageReadMode.RGB)) for each in buffers])

    def load(folder: Path, number: int, workers: int) -> Iterable[Any]:
        stream, loader = open_stream(folder, number)
        batches: Iterable[Any] = loader(
            stream,
            batch_size=BATCH_SIZE,
            num_workers=workers,
            multiprocessing_context=forked(workers),
            collate_fn=collate,
        )
        return batches

    return load


def litdata_stream(folder: Path, number: int) -> Any:
    """The data set and loader of LitData."""
    litdata = import_module("litdata")
    stream = litdata.StreamingDataset(str(litdata_chunks(folder, number)), shuffle=True)
    return stream, litdata.StreamingDataLoader


def mds_stream(folder: Path, number: int) -> Any:
    """The data set and loader of MosaicML streaming."""
    streaming = import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()
    stream = streaming.StreamingDataset(
        local=str(mds_shards(folder, number)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_canonical_nodes=1,
    )
    return stream, streaming.StreamingDataLoader


def with_ffcv(size: int) -> Pipeline:
    """FFCV, compiled by Numba."""
    ffcv, fields, transforms = (
        import_module(f"ffcv.{name}") for name in ("loader", "fields.rgb_image", "transforms")
    )

    def load(folder: Path, number: int, workers: int) -> Iterable[Any]:
        steps = [
            fields.RandomResizedCropRGBImageDecoder((size, size), CROP_SCALE, RATIOS),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.ToTorchImage(channels_last=False),
        ]
        loader: Iterable[Any] = ffcv.Loader(
            str(ffcv_file(folder, number)),
            batch_size=BATCH_SIZE,
            num_workers=max(1, workers),
            order=ffcv.OrderOption.RANDOM,
            pipelines={"image": steps},
            drop_last=True,
        )
        for _ in loader:  # which compiles it
            pass
        return loader

    return load


KINDS: dict[str, tuple[str, str, Callable[[int], Pipeline]]] = {
    "torchvision v2": ("torchvision", "torchvision", with_torchvision_v2),
    "OpenCV": ("cv2", "opencv-python-headless", with_opencv),
    "DALI": ("nvidia.dali", "nvidia-dali-cuda120", partial(with_dali, kind="CUBIC")),
    "DALI linear": ("nvidia.dali", "nvidia-dali-cuda120", partial(with_dali, kind="TRIANGULAR")),
    "SPDL": ("spdl.io", "spdl", with_spdl),
    "LitData": ("litdata", "litdata", partial(with_stream, open_stream=litdata_stream)),
    "MosaicML": ("streaming", "mosaicml-streaming", partial(with_stream, open_stream=mds_stream)),
    "FFCV": ("ffcv", "ffcv", with_ffcv),
}
"""Name -> module, package, and the pipeline of a size."""


def fast_pipelines(sizes: Iterable[int]) -> tuple[dict[str, Pipeline], list[str]]:
    """Return the pipelines of what is installed.

    Args:
        sizes: Sizes of images in pixels.

    Returns:
        Name and size -> pipeline, and a line for each library: its version, or that it is skipped.
    """
    pipelines, lines = dict[str, Pipeline](), list[str]()
    for name, (module, package, create) in KINDS.items():
        try:
            import_module(module)
            pipelines |= {f"{name} {size}": create(size) for size in sizes}
            lines.append(f"{name}: {package} {version(package)}")
        except (ImportError, OSError, PackageNotFoundError) as error:
            lines.append(f"{name}: skipped, pip install {package} ({' '.join(str(error).split())})")
    return pipelines, lines
