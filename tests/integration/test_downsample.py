"""Images of small stages that shrink in the loader, and the advice to let them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.training.metrics import Meter
from tests.support.arguments import tiny


def test_a_run_without_small_stages_is_the_same(clothes: str, tmp_path: Path) -> None:
    losses = []
    for downsample in ("device", "loader"):
        arguments = tiny(
            clothes,
            tmp_path / downsample,
            curriculum__name="constant",
            curriculum__stages="[]",
            optim__epochs=1,
            optim__warmup_epochs=0,
            data__downsample=downsample,
        )
        assert main(["pretrain", *arguments]) == 0
        metrics = Run(tmp_path / downsample).read_metrics()
        losses.append([line["loss"] for line in metrics if "loss" in line])
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]


def test_a_run_goes_through_its_stages(clothes: str, tmp_path: Path) -> None:
    losses = {}
    for downsample in ("device", "loader"):
        run = tmp_path / downsample
        assert main(["pretrain", *tiny(clothes, run, data__downsample=downsample)]) == 0
        metrics = Run(run).read_metrics()
        sizes = [line["size"] for line in metrics if "size" in line]
        assert sizes == [8] * 10 + [12] * 5 + [16] * 5
        losses[downsample] = [line["eval_loss"] for line in metrics if "eval_loss" in line][-1]
    assert losses["loader"] == pytest.approx(losses["device"], rel=0.05)
    assert losses["loader"] != losses["device"]


def test_bad_downsample(clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *tiny(clothes, tmp_path / "run", data__downsample="gpu")]) == 2
    (line,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("error:")]
    assert "data.downsample" in line
    assert "device" in line
    assert "loader" in line


@pytest.mark.parametrize(
    ("downsample", "workers", "times", "remedy"),
    [
        ("device", 1, 1, "data.downsample loader"),
        ("device", 0, 1, "data.num_workers is 0"),
        ("loader", 0, 0, ""),
    ],
)
def test_waiting_brings_advice_once(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    downsample: str,
    workers: int,
    times: int,
    remedy: str,
) -> None:
    read = Meter.read
    monkeypatch.setattr(Meter, "read", lambda meter: {**read(meter), "data_wait": 0.5})
    options = {"data__downsample": downsample, "data__num_workers": workers}
    arguments = tiny(clothes, tmp_path / "run", **options, run__eval_every="null")
    assert main(["pretrain", *arguments]) == 0
    advice = [r for r in caplog.messages if "waiting for images" in r]
    assert len(advice) == times
    assert all("50 % of the time at size 8 " in line and remedy in line for line in advice)
