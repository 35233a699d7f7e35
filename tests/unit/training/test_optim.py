"""Learning rate by formula, weight decay by group, and optimizer steps that leave out NaN."""

import copy
import math
from typing import Any

import pytest
import timm.optim
import torch
from accelerate import Accelerator
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from mae_et.training.optim import (
    accumulate_gradients,
    adamw,
    chunks_per_micro_batch,
    lamb,
    set_learning_rate,
    step_if_finite,
)
from tests.support.models import BuildMAE


@pytest.fixture
def accelerator(device: str) -> Accelerator:
    return Accelerator(mixed_precision="no")


# --- learning rate


def test_learning_rates_of_groups() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 0.25},
        {"params": [nn.Parameter(torch.zeros(1))]},
    ]
    optimizer = adamw(groups, (0.9, 0.95))
    for value in (0.4, 0.2):  # set, not multiplied up
        set_learning_rate(optimizer, value)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([value / 4, value])
    assert all(g["betas"] == (0.9, 0.95) for g in optimizer.param_groups)


# --- weight decay


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@pytest.mark.parametrize("encoder", ["vit_base_patch16_224", "vit_base_patch16_gap_224"])
def test_weight_decay_groups(tiny_mae: BuildMAE, encoder: str, positions: str) -> None:
    model = tiny_mae(encoder, positions=positions)
    no_decay, decay = param_groups_weight_decay(model, 0.05)
    assert (no_decay["weight_decay"], decay["weight_decay"]) == (0.0, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    not_decayed = {names[id(parameter)] for parameter in no_decay["params"]}
    decayed = {names[id(parameter)] for parameter in decay["params"]}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not_decayed | decayed == trained
    assert not not_decayed & decayed
    assert not_decayed == {name for name in trained if name.endswith("bias") or ".norm" in name} | {
        "decoder_norm.weight"
    }
    assert ("encoder.pos_embed" in trained) == (positions == "learned")


# --- steps


class Setup:
    """A small network with its optimizer, and batches by number."""

    def __init__(self, accelerator: Accelerator) -> None:
        torch.manual_seed(0)
        self.accelerator = accelerator
        model = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3))
        groups = param_groups_weight_decay(model, 0.05)
        self.model, self.optimizer = accelerator.prepare(model, adamw(groups, (0.9, 0.95)))
        set_learning_rate(self.optimizer, 0.01)

    def loss(self, number: int, rows: slice = slice(None)) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        batch = torch.randn(8, 5, generator=generator)[rows].to(self.accelerator.device)
        return (self.model(batch) - 1).square().mean()

    def step(
        self, number: int, clip_grad: float | None = None, poison: float | None = None
    ) -> Tensor:
        self.accelerator.backward(self.loss(number))
        if poison is not None:
            self.model[2].weight.grad[1, 2] = poison
        return step_if_finite(self.accelerator, self.model, self.optimizer, clip_grad)

    def everything(self) -> dict[str, Tensor]:
        """Parameters and the whole state of the optimizer, copied."""
        found = {name: value.clone() for name, value in self.model.state_dict().items()}
        for key, entries in self.optimizer.state_dict()["state"].items():
            found |= {f"{key}.{name}": value.clone() for name, value in entries.items()}
        return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("clip_grad", [None, 1.0])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_left_out(
    accelerator: Accelerator, poison: float, clip_grad: float | None
) -> None:
    setup = Setup(accelerator)
    for number in range(3):
        assert setup.step(number, clip_grad).isfinite()
    before = setup.everything()
    assert [v.item() for k, v in before.items() if k.endswith(".step")] == [3] * 4

    norm = setup.step(3, clip_grad, poison)
    assert not norm.isfinite()
    assert_same(setup.everything(), before)
    assert all(parameter.grad is None for parameter in setup.model.parameters())

    # ... and it is as if it had never been:
    setup.step(4, clip_grad)
    undisturbed = Setup(accelerator)
    for number in (0, 1, 2, 4):
        undisturbed.step(number, clip_grad)
    after = setup.everything()
    assert_same(after, undisturbed.everything())
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert [v.item() for k, v in after.items() if k.endswith(".step")] == [4] * 4


def test_the_very_first_step_may_be_left_out(accelerator: Accelerator) -> None:
    setup, undisturbed = Setup(accelerator), Setup(accelerator)
    before = copy.deepcopy(setup.model.state_dict())
    setup.step(0, poison=math.nan)
    assert_same(setup.model.state_dict(), before)
    setup.step(1)
    undisturbed.step(1)
    assert_same(setup.everything(), undisturbed.everything())


def test_steps_are_adamws(accelerator: Accelerator) -> None:
    setup = Setup(accelerator)
    plain = copy.deepcopy(setup.model)
    optimizer = torch.optim.AdamW(
        param_groups_weight_decay(plain, 0.05), lr=0.01, betas=(0.9, 0.95), fused=False
    )
    for number in range(3):
        setup.step(number)
        generator = torch.Generator().manual_seed(number)
        batch = torch.randn(8, 5, generator=generator).to(accelerator.device)
        (plain(batch) - 1).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(setup.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_lamb_is_timms_and_leaves_out_what_is_not_finite(accelerator: Accelerator) -> None:
    ours, theirs = Setup(accelerator), Setup(accelerator)
    groups = [param_groups_weight_decay(setup.model, 0.05) for setup in (ours, theirs)]
    ours.optimizer = accelerator.prepare(lamb(groups[0], (0.9, 0.999)))
    plain = timm.optim.Lamb(groups[1], lr=0.0, max_grad_norm=1.0)  # which clips by itself
    theirs.optimizer = accelerator.prepare(plain)
    for setup in (ours, theirs):
        set_learning_rate(setup.optimizer, 0.01)
    for number in range(4):
        if number == 2:
            before = ours.everything()
            assert ours.step(9, 1.0, math.nan).isnan()
            assert_same(ours.everything(), before)
        ours.step(number, 1.0)
        theirs.step(number)
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(ours.model[0].weight, Setup(accelerator).model[0].weight)


@pytest.mark.parametrize("clip_grad", [0.01, 1e6, None])
def test_clipping(accelerator: Accelerator, clip_grad: float | None) -> None:
    setup = Setup(accelerator)
    setup.loss(0).backward()
    gradients = [parameter.grad.clone() for parameter in setup.model.parameters()]
    expected = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert expected > 0.02

    norm = step_if_finite(setup.accelerator, setup.model, setup.optimizer, clip_grad)
    torch.testing.assert_close(norm, expected)  # before clipping
    assert norm.shape == ()
    clipped = clip_grad is not None and expected > clip_grad
    scale = (clip_grad or 0.0) / expected.item() if clipped else 1.0
    for parameter, gradient in zip(setup.model.parameters(), gradients, strict=True):
        moment = setup.optimizer.state[parameter]["exp_avg"]  # 0.1 · gradient after one step
        torch.testing.assert_close(moment, 0.1 * scale * gradient, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("num_micro_batches", [1, 2, 4, 8])
def test_micro_batches_add_up_to_the_batch(
    accelerator: Accelerator, num_micro_batches: int
) -> None:
    setup = Setup(accelerator)
    setup.loss(0).backward()
    expected = [parameter.grad.clone() for parameter in setup.model.parameters()]
    setup.optimizer.zero_grad()

    size = 8 // num_micro_batches
    parts = iter(range(num_micro_batches))

    def next_loss() -> Tensor:
        part = next(parts)
        return setup.loss(0, slice(part * size, (part + 1) * size))

    loss = accumulate_gradients(accelerator, setup.model, num_micro_batches, next_loss)
    assert next(parts, None) is None
    torch.testing.assert_close(loss, setup.loss(0).detach())
    assert not loss.requires_grad
    for parameter, gradient in zip(setup.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-7, rtol=1e-5)


def test_micro_batches_of_a_masked_autoencoder(
    tiny_mae: BuildMAE, accelerator: Accelerator
) -> None:
    model = accelerator.prepare(tiny_mae("vit_base_patch16_224"))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 16, 16, generator=generator).to(accelerator.device)
    noise = torch.rand(8, 16, generator=generator).to(accelerator.device)
    whole = model(images, noise).loss
    whole.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = iter(zip(images.split(2), noise.split(2), strict=True))
    loss = accumulate_gradients(accelerator, model, 4, lambda: model(*next(parts)).loss)
    torch.testing.assert_close(loss, whole.detach())
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "num_chunks", "expected"),
    [(224, 4, 1), (192, 4, 1), (160, 4, 2), (160, 3, 1), (96, 16, 4), (96, 5, 5), (96, 1, 1)],
)
def test_small_stages_join_chunks(size: int, num_chunks: int, expected: int) -> None:
    assert chunks_per_micro_batch(size, 224, num_chunks) == expected
