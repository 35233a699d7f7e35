"""Time low_frequency_crop against the FFT it replaces and against a bicubic resize.

    python scripts/bench_crop.py [--device cuda]

The three are alternated in one process; medians and ratios are printed. Absolute times of a shared
machine mean little: quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from functools import partial
from pathlib import Path

import torch
from support.runs import facts
from support.timing import alternated, median_ratio
from torch import Tensor
from torch.nn import functional as F

from mae_et import low_frequency_crop


def fft_crop(images: Tensor, size: int) -> Tensor:
    """The crop by its definition."""
    full = images.shape[-1]
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
    start = full // 2 - size // 2
    kept = spectrum[..., start : start + size, start : start + size] * (size / full) ** 2
    return torch.fft.ifft2(torch.fft.ifftshift(kept, dim=(-2, -1))).real


def bicubic(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)


def main() -> None:
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
    functions = {"crop": low_frequency_crop, "fft": fft_crop, "bicubic": bicubic}
    rows = []
    for full, size in [(224, 192), (224, 160), (224, 96), (28, 20)]:
        images = torch.randn(options.batch, 3, full, full, device=options.device)
        error = (low_frequency_crop(images, size) - fft_crop(images.double(), size)).abs().max()
        steps = {name: partial(function, images, size) for name, function in functions.items()}
        times = alternated(steps, options.rounds, options.device)
        fft_ratio = median_ratio(times["fft"], times["crop"])
        bicubic_ratio = median_ratio(times["crop"], times["bicubic"])
        row = {"full": full, "size": size, "fft ÷ crop": fft_ratio, "crop ÷ bicubic": bicubic_ratio}
        rows.append(row | {"seconds": times, "max error": error.item()})
        milliseconds = 1e3 * statistics.median(times["crop"]) / options.batch
        print(
            f"{f'{full} -> {size}':>12} {milliseconds:>9.3f} {fft_ratio:>11.2f} "
            f"{bicubic_ratio:>15.2f} {error.item():>10.1e}"
        )
    if options.out:
        setting = {**facts(), "device": options.device, "batch": options.batch}
        options.out.write_text(json.dumps({**setting, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
