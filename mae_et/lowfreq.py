"""Low-frequency cropping: keep the centre of an image's spectrum and shrink it accordingly.

By definition (EfficientTrain, https://arxiv.org/abs/2211.09703, Section 4.1 and released code):
take the FFT of an N × N image, keep rows and columns with frequencies in [-B/2, B/2), scale by
(B/N)², and take the real part of the inverse FFT of size B × B.

This map is linear, and separable except for the unpaired frequency -B/2 of an even B. Along one
axis it is

    M = (1/N) Σ_k exp(2πi k (m/B - n/N)) = A + i u vᵀ,   u_m = (-1)^m,  v_n = sin(πBn/N) / N,

with a real B × N matrix A, and v = 0 for odd B. The real part of M x Mᵀ is A x Aᵀ - u (vᵀ x v) uᵀ:
two matrix products and a checkerboard per image, which is several times faster than the FFTs.

A has a closed form, so that building it takes no more than its own B·N numbers. Its entries are
(1/N) Σ_k cos(kθ) with θ = 2πp/(BN) and the whole number p = mN - nB. The terms form a Dirichlet
kernel, whose sum is sin(Bθ/2) / sin(θ/2) for odd B; for even B, which has -B/2 without its partner,
it is sin(Bθ/2) / tan(θ/2); and for θ = 0 it is B. Both angles, Bθ/2 = π(m - nB/N) and θ/2, are
taken modulo π in whole numbers, so that they are exact but for one rounding.

Shape legend: H, W height and width of the image; h, w those of the result.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Nyquist = Literal["paper", "symmetric"]
"""What happens to the frequency -B/2 of an even size B; see `low_frequency_crop`."""


def low_frequency_crop(
    images: Tensor, size: int | tuple[int, int], nyquist: Nyquist = "paper"
) -> Tensor:
    """Crop the spectrum of images to its low frequencies.

    Args:
        images: (…, H, W), floating point. Half precision is computed and returned in float32, also
            under autocast.
        size: Pixels of the result, (h, w) or one number. If it is one number and the images are not
            square, the shorter side becomes `size` and the other one keeps the ratio.
        nyquist: What happens to the frequency -B/2, which has no partner at +B/2 when B is even.
            "paper" keeps it as the released code does, and drops the imaginary part that results;
            "symmetric" shares it equally between both signs, so that the result is real without
            dropping anything. For odd sizes both agree.

    Returns:
        (…, h, w) in float32, or in float64 for float64 images; differentiable.

    Raises:
        TypeError: The images are not floating point.
        ValueError: A size is below 2 or above the image's, or `nyquist` is unknown.
    """
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point, got {images.dtype}; use images.float()")
    if images.ndim < 2:
        raise ValueError(f"images must be (…, H, W), got shape {tuple(images.shape)}")
    if nyquist not in ("paper", "symmetric"):
        raise ValueError(f"nyquist must be 'paper' or 'symmetric', got {nyquist!r}")
    full_height, full_width = images.shape[-2:]
    height, width = _target_size(full_height, full_width, size)
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32

    with torch.autocast(images.device.type, enabled=False):
        images = images.to(dtype)
        if (height, width) == (full_height, full_width):
            return images
        rows = _crop_matrix(full_height, height, dtype, images.device)
        columns = _crop_matrix(full_width, width, dtype, images.device)
        flat = images.reshape(-1, full_height, full_width)
        partial = _batched(rows, flat) @ flat  # (N, h + 1, W); the last row is vᵀ x
        cropped = partial[:, :height] @ _batched(columns[:width].T, flat)
        if nyquist == "paper":
            unpaired = partial[:, height] @ columns[width]  # (N,); 0 for an odd size
            board = _checkerboard(height, width, dtype, images.device)
            cropped = cropped - unpaired[:, None, None] * board
        return cropped.reshape(*images.shape[:-2], height, width)


def _batched(matrix: Tensor, images: Tensor) -> Tensor:
    """Repeat a matrix for each image: products by image take strided images as they are."""
    return matrix.expand(len(images), -1, -1)


def _target_size(full_height: int, full_width: int, size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size, int):
        shorter = min(full_height, full_width)
        height, width = (round(side * size / shorter) for side in (full_height, full_width))
    else:
        height, width = size
    for name, pixels, limit in (("height", height, full_height), ("width", width, full_width)):
        if not 2 <= pixels <= limit:
            raise ValueError(f"size ({name}) must be in 2 … {limit}, got {pixels}")
    return height, width


@lru_cache(maxsize=64)
def _crop_matrix(full: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size + 1, full): A, and below it vᵀ; see the module's docstring."""
    with torch.inference_mode(False), torch.no_grad():  # cached, and autograd may use it later
        m, n = torch.arange(size)[:, None], torch.arange(full)
        position = m * full - n * size  # p
        angle, sign = _half_turns(-n * size, full)  # Bθ/2, but for m half turns
        above = angle.sin() * sign * (1 - 2 * (m % 2))
        angle, sign = _half_turns(position, size * full)  # θ/2
        below = angle.tan() if size % 2 == 0 else angle.sin() * sign
        matrix = torch.where(position == 0, size, above / below) / full
        if size % 2 == 0 and size < full:
            unpaired = torch.sin(math.pi * size * n.double() / full) / full
        else:
            unpaired = torch.zeros(full, dtype=torch.float64)
        return torch.cat([matrix, unpaired[None]]).to(device, dtype)


def _half_turns(numerator: Tensor, denominator: int) -> tuple[Tensor, Tensor]:
    """Split π · numerator / denominator into an angle in [-π/2, π/2] and the sign of half turns."""
    turns = torch.div(numerator + denominator // 2, denominator, rounding_mode="floor")
    rest = (numerator - turns * denominator).double()
    return rest * (math.pi / denominator), 1 - 2 * (turns % 2)


@lru_cache(maxsize=64)
def _checkerboard(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(height, width): +1 where row + column is even, else -1."""
    with torch.inference_mode(False), torch.no_grad():
        odd = (torch.arange(height)[:, None] + torch.arange(width)[None, :]) % 2
        return (1 - 2 * odd).to(device, dtype)
