"""The unit of pixels: what each kind of number is divided by, so that 1 is white.

| numbers | divided by |
|---|---|
| unsigned of b bits (uint8, uint16, uint32; 12-bit TIFF) | 2^b - 1: 255, 65535, …, 4095 |
| 1 bit, bool | 1 |
| signed (int8, int16, int32) | 1: taken as they are |
| floating point | 1: taken as they are |
| pictures with palette, CMYK, YCbCr, LAB, HSV | 255, as 8-bit RGB of Pillow |

A type states its scale, the values do not: 12 bits in a 16-bit file are divided by 65535. Grey and
colour have the same scale: grey becomes RGB as the same number thrice, and RGB becomes grey by its
luma (ITU-R 601, as in Pillow). Samples hold values times 255, so 8-bit images stay uint8.

Where there is alpha, the background is white, as on a page or in a browser: pictures with
transparency are drawn to be seen on it, and black lines would vanish on black. What the file hides
under transparent pixels is not seen. Models of 4 channels get alpha as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BACKGROUND = 1.0
"""What is seen through transparent pixels: white."""

LUMA = (0.299, 0.587, 0.114)
"""The parts of red, green and blue in grey (ITU-R 601)."""


def white_of(kind: np.dtype[Any], bits: int | None = None) -> int | None:
    """Return the number that is white, by which pixels are divided.

    Args:
        kind: The type of the numbers.
        bits: Bits of a number, if the file states fewer than its type has.

    Returns:
        The number; None for types without a largest value, which are taken as they are.
    """
    if kind.kind == "b":
        return 1
    if kind.kind != "u":
        return None
    return int(2 ** min(bits or 64, 8 * kind.itemsize) - 1)


def to_channels(
    pixels: Any, num_channels: int, white: float | None, *, alpha: str | None = None
) -> tuple[Any, float | None]:
    """Turn a picture of numbers into grey, RGB or RGBA.

    Args:
        pixels: (C, H, W) of any type: grey or RGB, then alpha if there is any.
        num_channels: 1, 3 or 4.
        white: The number that is white; None if there is none, which then is 1 for alpha.
        alpha: How the last channel is alpha: "straight", or "premultiplied" if colours have been
            multiplied by it; None if it is none.

    Returns:
        The pixels (num_channels, H, W), of the same type or float32, and the number that is now
        white.
    """
    one = 1 if white is None else white
    colours = pixels if alpha is None else pixels[:-1]
    if num_channels == 4:
        opacity = np.full_like(pixels[:1], one) if alpha is None else pixels[-1:]
        return np.concatenate([np.broadcast_to(colours, (3, *pixels.shape[1:])), opacity]), white
    if alpha is not None:
        opacity = pixels[-1:].astype(np.float32) / one
        colours = colours.astype(np.float32) / one
        if alpha == "straight":
            colours = colours * opacity
        colours, white = colours + (1 - opacity) * BACKGROUND, white and 1.0
        one = 1
    if num_channels == 1 and len(colours) == 3:
        weights = np.array(LUMA, np.float32)[:, None, None] / one
        return (colours * weights).sum(0, keepdims=True), white and 1.0
    return np.broadcast_to(colours, (num_channels, *pixels.shape[1:])), white
