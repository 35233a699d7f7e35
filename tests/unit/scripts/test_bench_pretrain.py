"""Where `scripts/bench_pretrain.py` says that a run's time went."""

from __future__ import annotations

from typing import Any

import bench_pretrain
import pytest


def window(step: int, size: int, seconds: float, graphs: int, wait: float = 0.0) -> dict[str, Any]:
    line = {"step": step, "size": size, "seconds": seconds, "graphs": graphs, "loss": 1.0}
    return line | {"images": 80, "data_wait": wait}


def test_seconds_of_stages_changes_and_waiting() -> None:
    lines = [
        window(10, 20, 15.0, 1),  # one second a step, and five for the start
        window(20, 20, 10.0, 1, wait=0.2),
        window(30, 20, 10.0, 2),  # compiled again
        {"step": 30, "eval_loss": 1.0},
        window(40, 28, 23.0, 3),  # two seconds a step, and three for the change
        window(50, 28, 20.0, 3, wait=0.1),
    ]
    found = bench_pretrain.accounts(lines, wall=90.0)
    assert (found["training"], found["rest"]) == (78.0, 12.0)
    small, full = found["stages"]
    assert (small["seconds"], small["step"], small["change"]) == pytest.approx((35.0, 1.0, 5.0))
    assert (full["seconds"], full["step"], full["change"]) == pytest.approx((43.0, 2.0, 3.0))
    assert [stage["waiting"] for stage in found["stages"]] == pytest.approx([2.0, 2.0])
    assert [(stage["graphs"], stage["recompiled"]) for stage in found["stages"]] == [(1, 1), (1, 0)]


def test_realised_by_planned() -> None:
    def part(constant: float, staged: float) -> dict[str, Any]:
        runs = dict.fromkeys(bench_pretrain.NAMES, staged) | {"constant": constant}
        plan = {"speedup": 1.5, "time_speedup": 1.6}
        return {
            "runs": {
                name: {"wall": value + 10, "training": value, "rest": 10.0, "stages": []}
                for name, value in runs.items()
            },
            "plans": dict.fromkeys(bench_pretrain.NAMES[1:], plan),
        }

    constant, staged, _ = bench_pretrain.rows([part(150, 100), part(120, 100), part(180, 100)])
    assert constant["training s"] == 150
    assert "planned, FLOPs" not in constant
    assert staged["training: realised ÷ planned, FLOPs"] == pytest.approx(1.0)
    assert staged["training: realised ÷ planned, measured steps"] == pytest.approx(1.5 / 1.6)
    assert staged["wall: realised ÷ planned, FLOPs"] == pytest.approx(160 / 110 / 1.5)
