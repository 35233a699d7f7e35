"""Reading foreign checkpoints safely, and the hand-off of the encoder to plain timm."""

import argparse
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mae_et import load_mae_checkpoint
from mae_et.weights.files import load_weights, read_weights
from tests.support.models import save

SOME = {"a": torch.arange(2000.0), "b": torch.ones(3, 4), "c": torch.zeros(0)}


# --- files


@pytest.mark.parametrize("name", ["nothing.pth", "nothing.safetensors", "no/folder/mae.pth"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    for read in (read_weights, load_mae_checkpoint):
        with pytest.raises(ValueError, match=rf"checkpoint must exist, got .*{name}"):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_format_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("some.safetensors" if kind == "safetensors" else "some.pth")
    save(SOME, path, kind)
    found = read_weights(path)
    assert found.keys() == SOME.keys()
    assert all(torch.equal(found[name], SOME[name]) for name in SOME)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("some.safetensors" if kind == "safetensors" else "some.pth")
    whole = save(SOME, path, kind)
    for length in [*range(32), *range(32, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        error = error_of_reading(path)
        assert isinstance(error, ValueError), f"{length} of {len(whole)} bytes: {error!r}"
        assert re.search(rf"checkpoint .*{path.name} .*damaged", str(error)), f"{length}: {error}"


def error_of_reading(path: Path) -> Exception | None:
    try:
        read_weights(path)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b'{"message": "not found"}',
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        bytes(1000),
    ],
    ids=["html", "lfs", "json", "png", "zeros"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .* damaged"):
        read_weights(path)


class Intruder:
    """Unpickling it runs a shell command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": x}, lambda x: {"args": x}])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_is_not_executed(
    tmp_path: Path, kind: str, wrap: Callable[..., Any]
) -> None:
    marker = tmp_path / "was_here"
    content = wrap(Intruder(marker))
    path = tmp_path / "mae.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        save(content, path, kind)
    for read in (read_weights, load_mae_checkpoint):
        with pytest.raises(ValueError, match=r"checkpoint .*mae\.pth .*not executed"):
            read(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Intruder(marker)))  # the trap does work
    assert marker.exists()


@pytest.mark.parametrize("kind", ["code", "array"])
def test_the_message_of_an_unsafe_file_is_one_plain_line(tmp_path: Path, kind: str) -> None:
    args = Intruder(tmp_path / "was_here") if kind == "code" else np.zeros(3)
    torch.save({"model": SOME, "args": args}, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="not executed") as error:
        read_weights(tmp_path / "mae.pth")
    assert str(error.value).isprintable()  # no colours
    # nor torch's advice to load the file after all:
    assert not re.search("can still be loaded|will likely succeed", str(error.value))


def test_only_namespaces_are_trusted_and_only_while_reading(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"model": SOME, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "mae.pth")
    assert read_weights(tmp_path / "mae.pth").keys() == SOME.keys()
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    "content", [3, [torch.zeros(3)], torch.zeros(3), {"model": 3}, {"a": 1}, {"model": {"a": "b"}}]
)
def test_a_file_without_a_state_dict(
    tmp_path: Path, content: int | torch.Tensor | dict[str, Any] | list[torch.Tensor]
) -> None:
    torch.save(content, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="must hold the state dict of one network"):
        read_weights(tmp_path / "mae.pth")


# --- architectures


def test_weights_that_do_not_fit_leave_the_model_alone() -> None:
    model = torch.nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"missing: bias"):
        load_weights(model, {"weight": torch.zeros(2, 3)}, "file")
    assert torch.equal(model.weight, before)
    load_weights(model, {"weight": torch.zeros(2, 3)}, "file", may_miss=("bias",))
    assert not model.weight.any()


# --- handing the encoder on


# --- numbers


def rounded(value: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    return torch.quantize_per_tensor(value, 0.1, 0, kind)


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.int8), "weights in float16, .*, got int8 as weight"),
        (lambda value: value > 0, "weights in float16, .*, got bool as weight"),
        (lambda value: value * 1j, "weights in float16, .*, got complex64 as weight"),
        (lambda value: value.to(torch.float8_e4m3fn), "got a tensor of torch.float8_e4m3fn as w"),
        (lambda value: rounded(value, torch.qint8), "got a tensor of torch.qint8 as weight"),
        (lambda value: value.to_sparse(), "got a tensor of torch.sparse_coo as weight"),
        (lambda value: value.to("meta"), "got a tensor of meta as weight; save it as dense float"),
        (lambda value: value.half(), None),
        (lambda value: value.bfloat16(), None),
        (lambda value: value.double(), None),
    ],
)
def test_numbers_that_are_no_weights(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], message: str | None
) -> None:
    model = torch.nn.Linear(2, 3)
    weight = torch.tensor([[0.5, 1.0], [-2.0, 3.0], [1.5, 0.25]])
    torch.save({"weight": change(weight), "bias": torch.zeros(3)}, tmp_path / "some.pth")
    if message is None:
        load_weights(model, read_weights(tmp_path / "some.pth"), "some.pth")
        assert torch.equal(model.weight, weight)
        return
    before = model.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_weights(model, read_weights(tmp_path / "some.pth"), "some.pth")
    assert torch.equal(model.weight, before)


def test_whole_numbers_stay_where_a_model_has_them(tmp_path: Path) -> None:
    model = torch.nn.BatchNorm1d(2)
    weights = {**model.state_dict(), "num_batches_tracked": torch.tensor(7)}
    load_weights(model, weights, "some.pth")
    assert model.num_batches_tracked == 7


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)
def test_no_message_advises_to_run_what_is_in_a_file(tmp_path: Path) -> None:
    """As torch does, about files of TorchScript and of pickled objects."""
    torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)).save(tmp_path / "script.pth")
    (tmp_path / "pickled.pth").write_bytes(pickle.dumps(Intruder(tmp_path / "ran")))
    for name in ("script.pth", "pickled.pth"):
        with pytest.raises(ValueError, match=r"holds more than tensors.* not executed") as caught:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
