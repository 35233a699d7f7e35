"""What the launcher's environment may change about a run: the table of the site, and no more."""

from __future__ import annotations

import re
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from torch import nn

from mae_et.config import RunConfig
from mae_et.training import make_accelerator
from tests.support.paths import ROOT

FAMILIES = "ACCELERATE|FSDP|MEGATRON_LM|PARALLELISM_CONFIG"


def listed() -> list[str]:
    """The names in the table; a * stands for any letters."""
    lines = (ROOT / "docs" / "reference" / "launcher.md").read_text().splitlines()
    return [name for line in lines if line[:1] == "|" for name in re.findall("`([^`]+)`", line)]


def test_the_table_lists_what_accelerate_reads() -> None:
    """Every variable in its source, and every field of `accelerate config`."""
    names = {field.name for field in fields(ClusterConfig)}
    for file in Path(accelerate.__file__).parent.rglob("*.py"):
        if "test_utils" not in file.parts:
            names |= set(re.findall(rf'"((?:{FAMILIES})_[A-Z0-9_]+[A-Z0-9])"', file.read_text()))
    assert len(names) > 60
    assert {n for n in names if not any(fnmatch(n, one) for one in listed())} == set()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "use --optim.micro_batch_size"),
        ("ACCELERATE_DYNAMO_BACKEND", "EAGER", "use --run.compile"),
        ("ACCELERATE_GRADIENT_CLIPPING", "0.1", "use --optim.clip_grad"),
        ("ACCELERATE_DYNAMO_BACKEND", "NO", None),  # as the launcher sets it
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", None),
    ],
)
def test_what_the_loop_does_itself_is_not_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    said: str | None,
) -> None:
    """The gradient is that of plain torch, and the model is not compiled."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    accelerator = make_accelerator(RunConfig(tracker="none"))
    plain = nn.Linear(3, 1)
    model = accelerator.prepare(plain)
    assert model is plain
    inputs = torch.arange(6.0).reshape(2, 3)
    accelerator.backward(model(inputs).mean())
    assert plain.weight.grad is not None
    torch.testing.assert_close(plain.weight.grad, inputs.mean(0, keepdim=True))
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ([] if said is None else [f"{name}={value} has no effect here; {said}"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "must not ask for DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "must not ask for Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "True", "must not ask for a parallelism config"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "mixed precision must be no, fp16, bf16, got 'fp8'"),
        ("ACCELERATE_MIXED_PRECISION", "half", "must be no, fp16, bf16, got 'half'"),
        ("FSDP_IGNORED_MODULES", "head", "--fsdp_ignored_modules must not be given, got 'head'"),
        ("FSDP_OFFLOAD_PARAMS", "true", "--fsdp_offload_params must be false, got true"),
        ("FSDP_VERSION", "1", "--fsdp_version must be 2, got 1"),
    ],
)
def test_what_a_run_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    if name.startswith("FSDP"):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_accelerator(RunConfig(tracker="none"), allow_fsdp=True)


def test_the_runs_own_precision_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    accelerator = make_accelerator(RunConfig(tracker="none", mixed_precision="bf16"))
    assert accelerator.mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_TORCH_DEVICE", "nonsense", "ACCELERATE_TORCH_DEVICE must be a device of this"),
        ("ACCELERATE_TORCH_DEVICE", "", "ACCELERATE_TORCH_DEVICE must be a device of this machine"),
        ("ACCELERATE_USE_CPU", "maybe", "ACCELERATE_USE_CPU must be yes or no in the environment"),
        ("ACCELERATE_DEBUG_MODE", "maybe", "ACCELERATE_DEBUG_MODE must be yes or no in the env"),
        ("ACCELERATE_USE_FSDP", "maybe", "ACCELERATE_USE_FSDP must be yes or no in the environ"),
        ("ACCELERATE_DOWNCAST_BF16", "yes", r"must not ask for TPUs \(ACCELERATE_DOWNCAST_BF16\)"),
        ("ACCELERATE_TORCH_DEVICE", "cpu", None),
        ("ACCELERATE_USE_CPU", "Y", None),
        ("ACCELERATE_DOWNCAST_BF16", "no", None),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str | None
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv(name, value)
    if message is None:
        assert make_accelerator(RunConfig(tracker="none")).device == torch.device("cpu")
        return
    with pytest.raises(ValueError, match=message):
        make_accelerator(RunConfig(tracker="none"))
