"""The crop against its definition by FFT in float64, and as a differentiable function.

Frequencies are used as indices: in an unshifted spectrum, Python's negative indices are exactly the
negative frequencies.
"""

from typing import Literal

import pytest
import torch
from torch import Tensor

from mae_et import low_frequency_crop

Nyquist = Literal["paper", "symmetric"]
CROPS = [
    ((224, 224), (96, 96)),
    ((224, 224), (160, 160)),
    ((224, 224), (192, 192)),
    ((28, 28), (12, 12)),
    ((28, 28), (20, 20)),
    ((28, 28), (24, 24)),
    ((48, 96), (32, 64)),  # not square
    ((28, 28), (13, 13)),  # odd from even
    ((29, 29), (12, 12)),  # even from odd
    ((31, 31), (17, 17)),
    ((29, 36), (11, 20)),  # an odd and an even side
    ((29, 36), (14, 15)),
    ((24, 24), (24, 16)),  # one side stays whole
    ((24, 23), (2, 3)),
    ((8, 2048), (6, 1463)),  # for which a sum over frequencies needs tens of GiB
    ((1500, 9), (1050, 7)),
]


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kept_frequencies(size: int) -> list[int]:
    """The integers in [-size/2, size/2), in the order of an unshifted spectrum."""
    kept = [k for k in range(-size, size) if -size <= 2 * k < size]
    return [k for k in kept if k >= 0] + [k for k in kept if k < 0]


def crop_by_fft(images: Tensor, height: int, width: int) -> Tensor:
    """The released semantics: keep, scale, invert, real part."""
    spectrum = torch.fft.fft2(images.double())
    spectrum = spectrum[..., kept_frequencies(height), :][..., kept_frequencies(width)]
    scale = height * width / (images.shape[-2] * images.shape[-1])
    return torch.fft.ifft2(spectrum * scale).real


def symmetric_crop_by_fft(images: Tensor, height: int, width: int) -> Tensor:
    """For even sizes: half of the coefficient at +B/2 and half of that at -B/2, on each axis."""
    spectrum = torch.fft.fft2(images.double())
    for dim, size, full in ((-2, height, images.shape[-2]), (-1, width, images.shape[-1])):
        kept = spectrum.index_select(dim, torch.tensor(kept_frequencies(size)) % full)
        if size % 2 == 0:
            position = kept_frequencies(size).index(-size // 2)
            shared = (spectrum.select(dim, size // 2) + spectrum.select(dim, -size // 2)) / 2
            kept.select(dim, position).copy_(shared)
        spectrum = kept * (size / full)
    cropped = torch.fft.ifft2(spectrum)
    assert cropped.imag.abs().max() < 1e-12  # this variant needs no real part
    return cropped.real


@pytest.mark.parametrize(("full", "size"), CROPS)
def test_crop_is_the_fft_definition(full: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(2, 3, *full)
    expected = crop_by_fft(images, *size)
    assert (low_frequency_crop(images, size).double() - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("full", "size"), CROPS)
def test_float64_stays_float64(full: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(2, 3, *full)
    expected = crop_by_fft(images, *size)
    exact = low_frequency_crop(images.double(), size)
    assert exact.dtype == torch.float64
    assert (exact - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("full", "size"), [crop for crop in CROPS if crop[0] != (24, 24)])
def test_symmetric_crop_is_its_definition(full: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(2, 3, *full)
    expected = symmetric_crop_by_fft(images, *size)
    cropped = low_frequency_crop(images, size, nyquist="symmetric")
    assert (cropped.double() - expected).abs().max() <= 1e-5
    exact = low_frequency_crop(images.double(), size, nyquist="symmetric")
    assert (exact - expected).abs().max() < 1e-12


def test_variants_differ_only_by_the_unpaired_frequency() -> None:
    images = noise(1, 28, 28, dtype=torch.float64)
    odd = [low_frequency_crop(images, 13, nyquist=n) for n in ("paper", "symmetric")]
    assert torch.equal(*odd)
    paper, symmetric = (low_frequency_crop(images, 12, nyquist=n) for n in ("paper", "symmetric"))
    difference = torch.fft.fft2(paper - symmetric)[0]
    assert difference[6, 6].abs() > 1e-3  # the corner (-B/2, -B/2), and nothing else
    difference[6, 6] = 0
    assert difference.abs().max() < 1e-11


@pytest.mark.parametrize(
    ("full", "size", "expected"),
    [((48, 96), 32, (32, 64)), ((96, 48), 32, (64, 32)), ((30, 41), 20, (20, 27))],
)
def test_one_number_is_the_shorter_side(
    full: tuple[int, int], size: int, expected: tuple[int, int]
) -> None:
    images = noise(1, *full)
    assert torch.equal(low_frequency_crop(images, size), low_frequency_crop(images, expected))
    assert low_frequency_crop(images, size).shape[-2:] == expected


@pytest.mark.parametrize("shape", [(28, 28), (2, 3, 28, 28), (2, 2, 3, 28, 28)])
@pytest.mark.parametrize("size", [11, 12])
def test_leading_dimensions_are_independent(shape: tuple[int, ...], size: int) -> None:
    images = noise(*shape)
    cropped = low_frequency_crop(images, size)
    assert cropped.shape == (*shape[:-2], size, size)
    one_by_one = [low_frequency_crop(image, size) for image in images.reshape(-1, 28, 28)]
    torch.testing.assert_close(cropped.reshape(-1, size, size), torch.stack(one_by_one))


@pytest.mark.parametrize("size", [11, 12])
def test_memory_layout_does_not_matter(size: int) -> None:
    images = noise(2, 3, 28, 28)
    expected = low_frequency_crop(images, size)
    for strided in (
        images.to(memory_format=torch.channels_last),
        images.transpose(-1, -2).contiguous().transpose(-1, -2),
        torch.nn.functional.pad(images, (1, 1, 1, 1))[..., 1:-1, 1:-1],
    ):
        assert not strided.is_contiguous()
        torch.testing.assert_close(low_frequency_crop(strided, size), expected, atol=1e-6, rtol=0)
    copies = low_frequency_crop(images[:1].expand(4, -1, -1, -1), size)
    torch.testing.assert_close(copies, expected[:1].expand(4, -1, -1, -1), atol=1e-6, rtol=0)


def test_an_empty_batch_stays_empty() -> None:
    assert low_frequency_crop(torch.zeros(0, 3, 28, 28), 20).shape == (0, 3, 20, 20)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    images = noise(2, 3, 28, 28).to(dtype)
    cropped = low_frequency_crop(images, 20)
    assert cropped.dtype == torch.float32
    assert (cropped.double() - crop_by_fft(images, 20, 20)).abs().max() <= 1e-5
    assert low_frequency_crop(images, 28).dtype == torch.float32


def test_autocast_changes_nothing() -> None:
    images = noise(2, 3, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        cropped = low_frequency_crop(images, 20)
    assert cropped.dtype == torch.float32
    assert torch.equal(cropped, low_frequency_crop(images, 20))


@pytest.mark.parametrize("nyquist", ["paper", "symmetric"])
@pytest.mark.parametrize("size", [4, 5, (4, 7), 8])
def test_gradients(nyquist: Nyquist, size: int | tuple[int, int]) -> None:
    images = noise(2, 8, 9 if size != 8 else 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: low_frequency_crop(x, size, nyquist), images)


def test_matrices_first_built_in_inference_mode_serve_autograd() -> None:
    full, size = (34, 38), (22, 26)  # used by no other test, so not yet cached
    with torch.inference_mode():
        low_frequency_crop(noise(1, *full), size)
    images = noise(1, *full).requires_grad_()
    low_frequency_crop(images, size).square().sum().backward()
    expected = images.detach().double().requires_grad_()
    crop_by_fft(expected, *size).square().sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad.double(), expected.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("nyquist", ["paper", "symmetric"])
@pytest.mark.parametrize(("full", "size"), [((224, 224), (160, 160)), ((29, 36), (11, 20))])
def test_constants_are_kept(nyquist: Nyquist, full: tuple[int, int], size: tuple[int, int]) -> None:
    cropped = low_frequency_crop(torch.full((3, *full), 1.7), size, nyquist)
    torch.testing.assert_close(cropped, torch.full((3, *size), 1.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [28, (28, 28)])
def test_full_size_is_the_identity(size: int | tuple[int, int]) -> None:
    images = noise(2, 3, 28, 28)
    assert torch.equal(low_frequency_crop(images, size), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="floating point"):
        low_frequency_crop(torch.zeros(3, 28, 28, dtype=dtype), 20)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1, r"height.*2 … 28, got 1"),
        (0, r"2 … 28, got 0"),
        (-4, r"2 … 28, got -4"),
        (29, r"2 … 28, got 29"),
        ((20, 29), r"width.*2 … 28, got 29"),
        ((29, 20), r"height.*2 … 28, got 29"),
        ((20, 1), r"width.*got 1"),
    ],
)
def test_sizes_out_of_range_are_refused(size: int | tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        low_frequency_crop(torch.zeros(3, 28, 28), size)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"nyquist must be 'paper' or 'symmetric', got 'both'"):
        low_frequency_crop(torch.zeros(3, 28, 28), 20, nyquist="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(28,\)"):
        low_frequency_crop(torch.zeros(28), 20)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("nyquist", ["paper", "symmetric"])
def test_cuda_agrees_with_cpu(nyquist: Nyquist) -> None:
    images = noise(2, 3, 224, 224)
    expected = low_frequency_crop(images, 160, nyquist)
    cropped = low_frequency_crop(images.cuda(), 160, nyquist)
    assert cropped.device.type == "cuda"
    torch.testing.assert_close(cropped.cpu(), expected, atol=1e-5, rtol=0)
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(low_frequency_crop(images.cuda(), 160, nyquist), cropped)
