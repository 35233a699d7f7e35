"""Position tables: the order of their channels in numbers, and their resampling.

A wrong order of the channels is invisible in shapes; so is a table built at another grid.
"""

import math

import pytest
import torch

from mae_et.model.pos_embed import resample_table, sincos_table


def table_by_loops(rows: list[float], columns: list[float], dim: int) -> torch.Tensor:
    """The reference implementation's: the column in the first half, each half [sin, cos]."""
    quarter = dim // 4
    table = []
    for row in rows:
        for column in columns:
            angles = [
                [position * 10000 ** (-i / quarter) for i in range(quarter)]
                for position in (column, row)
            ]
            table.append(
                [wave(angle) for half in angles for wave in (math.sin, math.cos) for angle in half]
            )
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize(
    ("grid", "dim"), [((14, 14), 768), ((14, 14), 512), ((3, 5), 16), ((5, 3), 32)]
)
def test_sincos_numbers(grid: tuple[int, int], dim: int) -> None:
    table = sincos_table(grid, dim)
    assert table.shape == (1, grid[0] * grid[1], dim)
    assert table.dtype == torch.float32
    expected = table_by_loops(list(range(grid[0])), list(range(grid[1])), dim)
    assert (table[0].double() - expected).abs().max() < 1e-6


def test_sincos_by_hand() -> None:
    table = sincos_table((2, 2), 8)[0]  # frequencies 1 and 1/100
    sin, cos = math.sin, math.cos
    assert table[1].tolist() == pytest.approx(  # row 0, column 1
        [sin(1), sin(0.01), cos(1), cos(0.01), 0, 0, 1, 1]
    )
    assert table[2].tolist() == pytest.approx(  # row 1, column 0
        [0, 0, 1, 1, sin(1), sin(0.01), cos(1), cos(0.01)]
    )


@pytest.mark.parametrize("num_prefix_tokens", [1, 5])
def test_prefix_rows_are_zero(num_prefix_tokens: int) -> None:
    table = sincos_table((3, 4), 16, num_prefix_tokens)
    assert not table[:, :num_prefix_tokens].any()
    assert torch.equal(table[:, num_prefix_tokens:], sincos_table((3, 4), 16))


@pytest.mark.parametrize("dim", [2, 30, 33])
def test_width_that_is_no_multiple_of_four(dim: int) -> None:
    with pytest.raises(ValueError, match=rf"multiple of 4, got {dim}"):
        sincos_table((2, 2), dim)


@pytest.mark.parametrize("grid", [(14, 14), (3, 5)])
@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 5])
def test_the_same_grid_is_the_identity(grid: tuple[int, int], num_prefix_tokens: int) -> None:
    table = sincos_table(grid, 32, num_prefix_tokens)
    assert torch.equal(resample_table(table, grid, grid, num_prefix_tokens), table)


@pytest.mark.parametrize(("old", "new"), [((14, 14), (10, 10)), ((6, 9), (4, 6)), ((4, 9), (6, 6))])
@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 5])
def test_resampled_shape_and_prefix(
    old: tuple[int, int], new: tuple[int, int], num_prefix_tokens: int
) -> None:
    table = torch.cat(
        [
            torch.randn(1, num_prefix_tokens, 8, generator=torch.Generator().manual_seed(0)),
            sincos_table(old, 8),
        ],
        dim=1,
    )
    resampled = resample_table(table, old, new, num_prefix_tokens)
    assert resampled.shape == (1, num_prefix_tokens + new[0] * new[1], 8)
    assert torch.equal(resampled[:, :num_prefix_tokens], table[:, :num_prefix_tokens])
    patches = resample_table(table[:, num_prefix_tokens:], old, new, 0)
    assert torch.equal(resampled[:, num_prefix_tokens:], patches)


@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (10, 10)), ((14, 14), (12, 12)), ((12, 14), (6, 10))]
)
def test_resampling_reads_the_table_between_its_points(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    rows, columns = (
        [(p + 0.5) * whole / part - 0.5 for p in range(part)]
        for whole, part in zip(old, new, strict=True)
    )
    expected = table_by_loops(rows, columns, 768)
    resampled = resample_table(sincos_table(old, 768), old, new, 0)[0].double()
    assert (resampled - expected).abs().mean() < 0.01
    # ... and is far from a table that is built at the new grid:
    native = sincos_table(new, 768)[0].double()
    assert (resampled - native).abs().mean() > 0.05


def test_rows_and_columns_are_resampled_apart() -> None:
    rows = torch.arange(6.0).repeat_interleave(4)
    columns = torch.arange(4.0).repeat(6)
    table = torch.stack([rows, columns], dim=1)[None]
    resampled = resample_table(table, (6, 4), (3, 4), 0)[0].reshape(3, 4, 2)
    assert torch.equal(resampled[..., 1], torch.arange(4.0).expand(3, -1))
    assert (resampled[1, :, 0] - 2.5).abs().max() < 1e-6  # half-way between rows 2 and 3


def test_gradients_reach_the_whole_table() -> None:
    table = sincos_table((6, 6), 8, 1).requires_grad_()
    resample_table(table, (6, 6), (4, 4), 1).sum().backward()
    assert table.grad is not None
    assert table.grad.ne(0).all()
    assert table.grad.sum().item() == pytest.approx(17 * 8, rel=1e-5)  # weights add up to one
