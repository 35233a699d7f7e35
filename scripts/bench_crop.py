"""Time low_frequency_crop against the FFT it replaces and against a bicubic resize.

    python scripts/bench_crop.py [--device cuda]

The three are alternated in one process; medians and ratios are printed. Absolute times on a shared
machine mean little: quote the ratios.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from support.runs import facts, write_json
from support.timing import alternated, median_ratio
from torch import Tensor
from torch.nn import functional as F

from mae_et import low_frequency_crop


def fft_crop(images: Tensor, size: int) -> Tensor:
    """The crop by its definition, of images (N, C, H, H) to (N, C, size, size)."""
    full = images.shape[-1]
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
    start = full // 2 - size // 2
    kept = spectrum[..., start : start + size, start : start + size] * (size / full) ** 2
    cropped: Tensor = torch.fft.ifft2(torch.fft.ifftshift(kept, dim=(-2, -1))).real
    return cropped


def bicubic(images: Tensor, size: int) -> Tensor:
    """An antialiased resize to the same size."""
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)


FUNCTIONS = {"crop": low_frequency_crop, "fft": fft_crop, "bicubic": bicubic}
SIZES = ((224, 192), (224, 160), (224, 96), (28, 20))


def measure(full: int, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """The ratios, seconds and error of a crop from one size to another."""
    images = torch.randn(options.batch, 3, full, full, device=options.device)
    error = (low_frequency_crop(images, size) - fft_crop(images.double(), size)).abs().max()
    steps = {name: partial(function, images, size) for name, function in FUNCTIONS.items()}
    times = alternated(steps, options.rounds, options.device)
    return {
        "full": full,
        "size": size,
        "fft ÷ crop": median_ratio(times["fft"], times["crop"]),
        "crop ÷ bicubic": median_ratio(times["crop"], times["bicubic"]),
        "seconds": times,
        "max error": error.item(),
    }


def main() -> None:
    """Measure each crop, and print a line about it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the numbers as JSON")
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, batch {options.batch} x 3 channels, median of {options.rounds}"
    )
    print(
        f"{'crop':>12} {'ms/image':>9} {'fft ÷ crop':>11} {'crop ÷ bicubic':>15} {'max error':>10}"
    )
    rows = []
    for full, size in SIZES:
        row = measure(full, size, options)
        rows.append(row)
        milliseconds = 1e3 * statistics.median(row["seconds"]["crop"]) / options.batch
        print(
            f"{f'{full} -> {size}':>12} {milliseconds:>9.3f} {row['fft ÷ crop']:>11.2f} "
            f"{row['crop ÷ bicubic']:>15.2f} {row['max error']:>10.1e}"
        )
    if options.out:
        setting = {**facts(), "device": options.device, "batch": options.batch}
        write_json(options.out, {**setting, "rows": rows})


if __name__ == "__main__":
    main()
