"""Stages: their sizes, their boundaries, and that they cover every step exactly once."""

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest

from mae_et import Curriculum, Stage
from mae_et.curriculum import Size, as_pair, as_size, learning_rate, num_training_steps


def area(size: Size) -> int:
    height, width = as_pair(size)
    return height * width


def sizes(curriculum: Curriculum) -> list[Size]:
    return [stage.size for stage in curriculum.stages]


@pytest.mark.parametrize(
    ("full_size", "patch_size", "expected"),
    [
        (224, 16, [160, 160, 160, 192, 224]),
        (28, 4, [20, 20, 20, 24, 28]),
        (224, 14, [154, 154, 154, 196, 224]),  # 160 and 192 are no multiples of 14
        (384, 16, [272, 272, 272, 336, 384]),  # 274.3 and 329.1
        ((224, 448), 16, [(160, 320)] * 3 + [(192, 384), (224, 448)]),
        ((112, 224), (8, 16), [(80, 160)] * 3 + [(96, 192), (112, 224)]),
        (16, 16, [16, 16, 16, 16, 16]),  # never below a patch
    ],
)
def test_efficienttrain_sizes(
    full_size: int | tuple[int, int],
    patch_size: int | tuple[int, int],
    expected: list[int | tuple[int, int]],
) -> None:
    curriculum = Curriculum.efficienttrain(
        full_size=full_size, patch_size=patch_size, num_steps=1000
    )
    assert sizes(curriculum) == expected
    assert curriculum.full_size == full_size
    assert [stage.start for stage in curriculum.stages] == [0, 200, 400, 600, 800]
    assert [stage.num_steps for stage in curriculum.stages] == [200] * 5
    assert curriculum.num_steps == 1000


@pytest.mark.parametrize("num_steps", [*range(5, 40), 97, 500, 1251, 99_999])
def test_efficienttrain_covers_every_step_once(num_steps: int) -> None:
    curriculum = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=num_steps)
    edges = [stage.start for stage in curriculum.stages] + [curriculum.stages[-1].stop]
    assert edges[0] == 0
    assert edges[-1] == curriculum.num_steps == num_steps
    assert [stage.stop for stage in curriculum.stages] == edges[1:]
    assert all(stage.num_steps >= 1 for stage in curriculum.stages)
    for fifth, edge in enumerate(edges):
        assert abs(edge - fifth * num_steps / 5) <= 0.5
    if num_steps < 1000:
        for step in range(num_steps):
            containing = [s for s in curriculum.stages if s.start <= step < s.stop]
            assert containing == [curriculum.stage_at(step)]


def test_stage_at_the_edges() -> None:
    curriculum = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=10)
    found = [curriculum.stage_at(step).size for step in range(10)]
    assert found == [160] * 6 + [192] * 2 + [224] * 2
    assert curriculum.stage_at(7) == Stage(size=192, start=6, stop=8)


@pytest.mark.parametrize("step", [-1, 10, 11])
def test_stage_at_outside_the_run(step: int) -> None:
    curriculum = Curriculum.constant(full_size=224, num_steps=10)
    with pytest.raises(ValueError, match=rf"step must be in 0 … 9, got {step}"):
        curriculum.stage_at(step)


def test_lr_progress() -> None:
    curriculum = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=10)
    assert [curriculum.lr_progress(step) for step in (0, 3, 5, 10)] == [0, 0.3, 0.5, 1]
    for step in (-1, 11):
        with pytest.raises(ValueError, match=rf"step must be in 0 … 10, got {step}"):
            curriculum.lr_progress(step)


def test_constant() -> None:
    curriculum = Curriculum.constant(full_size=(96, 128), num_steps=1)
    assert curriculum.stages == (Stage(size=(96, 128), start=0, stop=1),)


@pytest.mark.parametrize(
    ("shares", "num_steps", "lengths"),
    [
        ((3, 1), 100, [75, 25]),  # shares are relative
        ((0.1, 0.1), 100, [50, 50]),
        ((1, 1, 1), 100, [33, 34, 33]),
        ((1, 1e-9), 100, [99, 1]),  # every stage gets a step
        ((1e-9, 1, 1e-9), 3, [1, 1, 1]),
        ((1e-9, 1e-9, 1), 10, [1, 1, 8]),
        ((1, 1e-9, 1e-9), 10, [8, 1, 1]),
    ],
)
def test_shares(
    shares: tuple[float, ...],
    num_steps: int,
    lengths: list[int],
) -> None:
    curriculum = Curriculum.from_stages([(32, share) for share in shares], num_steps=num_steps)
    assert [stage.num_steps for stage in curriculum.stages] == lengths
    assert curriculum.num_steps == num_steps


def test_sizes_may_go_down_and_be_lists() -> None:
    stages: list[Any] = [(32, 1), (16, 1), ([24, 32], 1), ([32, 32], 1)]
    curriculum = Curriculum.from_stages(stages, num_steps=4, patch_size=8)
    assert sizes(curriculum) == [32, 16, (24, 32), 32]


@pytest.mark.parametrize(
    ("stages", "num_steps", "patch_size", "message"),
    [
        ([], 10, None, r"curriculum\.stages is empty"),
        ([(16, 1), (32, 1)], 1, None, "at least 2 steps, .* got num_steps 1"),
        ([(32, 1)], 0, None, "at least 1 steps, .* got num_steps 0"),
        ([(0, 1), (32, 1)], 10, None, r"size must be positive, got 0"),
        ([(-16, 1), (32, 1)], 10, None, r"size must be positive, got -16"),
        ([(48, 1), (32, 1)], 10, None, r"at most the full size 32 .*got 48"),
        ([((32, 48), 1), (32, 1)], 10, None, r"at most the full size 32 .*got \(32, 48\)"),
        ([(20, 1), (32, 1)], 10, 8, r"multiple of the patch size 8, got 20; nearest: 16"),
        ([((16, 20), 1), (32, 1)], 10, (8, 16), r"patch size \(8, 16\), got \(16, 20\)"),
        ([(16, 0), (32, 1)], 10, None, r"share must be positive, got 0 for size 16"),
        ([(16, -0.5), (32, 1)], 10, None, r"share must be positive, got -0\.5"),
        ([(16, float("nan")), (32, 1)], 10, None, r"share must be positive, got nan"),
    ],
)
def test_bad_stages(
    stages: list[Any], num_steps: int, patch_size: int | tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum.from_stages(stages, num_steps=num_steps, patch_size=patch_size)


def test_efficienttrain_needs_a_step_for_each_stage() -> None:
    with pytest.raises(ValueError, match=r"at least 5 steps, .* got num_steps 4"):
        Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=4)


def test_a_curriculum_cannot_be_changed() -> None:
    curriculum = Curriculum.constant(full_size=224, num_steps=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        curriculum.stages = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        curriculum.stages[0].size = 32  # type: ignore[misc]


@pytest.mark.parametrize(
    ("epochs", "num_images", "batch_size", "steps"),
    [
        (8, 60_000, 512, 938),  # 937.5: to the even neighbour
        (1, 1000, 512, 2),  # 1.95
        (3, 100, 64, 5),  # 4.69; no step is lost at the end of an epoch
        (0.5, 100, 25, 2),
        (1, 33, 64, 1),  # 0.52
    ],
)
def test_num_training_steps(epochs: float, num_images: int, batch_size: int, steps: int) -> None:
    found = num_training_steps(epochs=epochs, num_images=num_images, batch_size=batch_size)
    assert found == steps


@pytest.mark.parametrize(("epochs", "num_images"), [(1, 31), (0, 1000), (1, 0)])
def test_too_few_images_for_a_step(epochs: int, num_images: int) -> None:
    with pytest.raises(ValueError, match=rf"{epochs} epochs of {num_images} images.*64"):
        num_training_steps(epochs=epochs, num_images=num_images, batch_size=64)


@pytest.mark.parametrize(("size", "pair"), [(32, (32, 32)), ((24, 32), (24, 32))])
def test_pairs(size: int | tuple[int, int], pair: tuple[int, int]) -> None:
    assert as_pair(size) == pair
    assert as_size(*pair) == size


@pytest.mark.parametrize(
    ("full_size", "patch_size", "name", "expected"),
    [
        (224, 16, "swin", [96] * 2 + [160] * 4 + [224] * 4),
        (224, 16, "deit", [96] * 2 + [160] * 4 + [192] * 2 + [224] * 2),
        (224, 16, "convnext", [160] * 6 + [224] * 4),
        (28, 4, "deit", [12] * 2 + [20] * 4 + [24] * 2 + [28] * 2),
        (224, 14, "swin", [98] * 2 + [154] * 4 + [224] * 4),
        ((224, 448), 16, "convnext", [(160, 320)] * 6 + [(224, 448)] * 4),
    ],
)
def test_efficienttrain_plus_sizes(
    full_size: int | tuple[int, int],
    patch_size: int,
    name: str,
    expected: list[int | tuple[int, int]],
) -> None:
    curriculum = Curriculum.efficienttrain_plus(
        full_size=full_size, patch_size=patch_size, budget=1000, sizes=name
    )
    assert sizes(curriculum) == expected


def test_efficienttrain_plus_on_imagenet() -> None:
    """400 full-size epochs with a batch of 4096: every sub-stage has 40 · (224 / B)² epochs."""
    budget = num_training_steps(epochs=400, num_images=1_281_167, batch_size=4096)
    curriculum = Curriculum.efficienttrain_plus(full_size=224, patch_size=16, budget=budget)
    assert budget == 125_114
    # 12,511.4 steps at full size, times 5.4444 at 96 and 1.96 at 160
    lengths = [stage.num_steps for stage in curriculum.stages]
    assert lengths[:2] == [68_118, 68_117]
    assert lengths[2:6] == [24_522, 24_523, 24_522, 24_522]
    assert lengths[6:] == [12_512, 12_511, 12_512, 12_511]
    assert curriculum.num_steps == 284_370  # 2.27289 times the budget


@pytest.mark.parametrize("name", ["swin", "deit", "convnext"])
@pytest.mark.parametrize("budget", [10, 97, 1251, 125_114])
def test_sub_stages_cost_the_same_within_rounding(name: str, budget: int) -> None:
    curriculum = Curriculum.efficienttrain_plus(
        full_size=224, patch_size=16, budget=budget, sizes=name
    )
    assert curriculum.stages[0].start == 0
    assert all(before.stop == stage.start for before, stage in pairwise(curriculum.stages))
    for stage in curriculum.stages:
        assert abs(stage.num_steps - budget / 10 * 224**2 / area(stage.size)) <= 1.5
    cost = sum(stage.num_steps * area(stage.size) for stage in curriculum.stages) / 224**2
    assert cost == pytest.approx(budget, abs=5)


def test_lr_progress_goes_by_cost() -> None:
    curriculum = Curriculum.efficienttrain_plus(full_size=28, patch_size=4, budget=90)
    lengths = [stage.num_steps for stage in curriculum.stages]
    assert lengths == [49, 49, 18, 18, 17, 18, 9, 9, 9, 9]
    for tenth, stage in enumerate(curriculum.stages):
        assert curriculum.lr_progress(stage.start) == tenth / 10
    assert curriculum.lr_progress(curriculum.num_steps) == 1
    assert curriculum.lr_progress(49 + 14) == pytest.approx(0.1 + 0.1 * 14 / 49)
    progress = [curriculum.lr_progress(step) for step in range(curriculum.num_steps + 1)]
    assert all(before < after for before, after in pairwise(progress))


def test_stages_of_a_share_of_the_cost() -> None:
    """Full-size steps: 30 for each stage, and 60 of a size that costs a sixth."""
    costs: dict[Size, float] = {8: 1, 16: 4, 32: 6}
    curriculum = Curriculum.from_stages(
        [(8, 2), (32, 1), (16, 1), (32, 1)], num_steps=150, cost=costs.__getitem__
    )
    assert [stage.num_steps for stage in curriculum.stages] == [360, 30, 45, 30]
    assert curriculum.lr_edges == (0.4, 0.6, 0.8, 1.0)
    assert curriculum.lr_progress(180) == pytest.approx(0.2)


def test_own_sizes_of_equal_cost() -> None:
    curriculum = Curriculum.efficienttrain_plus(
        full_size=32,
        patch_size=8,
        budget=100,
        sizes=[16, 24, 32],
        cost=lambda size: as_pair(size)[0],
    )
    assert [(stage.size, stage.num_steps) for stage in curriculum.stages] == [
        (16, 66),  # 66.5, 44.3 and 33.2 of 144
        (24, 45),
        (32, 33),
    ]


def test_unknown_list_of_sizes() -> None:
    with pytest.raises(ValueError, match="one of swin, deit, convnext, or pixels, got 'vit'"):
        Curriculum.efficienttrain_plus(full_size=224, patch_size=16, budget=100, sizes="vit")


def reference_schedule(
    epoch: float, *, lr: float, min_lr: float, warmup: int, epochs: int
) -> float:
    """By epochs, as the paper's code counts."""
    if epoch < warmup:
        return lr * epoch / warmup
    turn = math.pi * (epoch - warmup) / (epochs - warmup)
    return min_lr + (lr - min_lr) * (math.cos(turn) + 1) / 2


@pytest.mark.parametrize("epoch", [0, 0.5, 39.999, 40, 40.001, 200, 420, 799.5, 800])
@pytest.mark.parametrize("min_lr", [0.0, 1e-6])
def test_learning_rate_is_maes(epoch: float, min_lr: float) -> None:
    found = learning_rate(epoch / 800, peak=2.4e-3, minimum=min_lr, warmup=40 / 800)
    expected = reference_schedule(epoch, lr=2.4e-3, min_lr=min_lr, warmup=40, epochs=800)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("progress", "warmup", "expected"),
    [
        (0, 0.1, 0),
        (0.05, 0.1, 0.5),
        (0.1, 0.1, 1),
        (0.55, 0.1, 0.6),  # half-way between 1 and the minimum of 0.2
        (1, 0.1, 0.2),
        (0, 0, 1),
        (0.25, 0, 0.2 + 0.8 * (1 + 0.5**0.5) / 2),
        (0.5, 0, 0.6),
        (1, 0, 0.2),
    ],
)
def test_learning_rate_by_hand(progress: float, warmup: float, expected: float) -> None:
    found = learning_rate(progress, peak=1.0, minimum=0.2, warmup=warmup)
    assert found == pytest.approx(expected, abs=1e-12)
