"""The study of the curricula: its arithmetic, its arms, and its cells through the real commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import study
from support import runs as _runs
from support.arms import ARMS, SCALES, Scale
from support.seeds import paired_difference, spread

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main as mae_et_main
from tests.support.paths import FASHION_MNIST

TINY = Scale(
    epochs=5,
    seeds=(0, 1),
    decoder_depth=2,
    pretraining={
        "data__num_images": 80,
        "model__decoder_dim": 16,
        "optim__batch_size": 8,
        "optim__micro_batch_size": 8,
    },
    network={
        "model__encoder_args": "{embed_dim: 16, depth: 1, num_heads: 2}",
        "model__patch_size": 4,
        "data__num_workers": 0,
        "run__tracker": "none",
    },
    finetuning=(1, 8),
)


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_interval_is_that_of_scipys_paired_t_test() -> None:
    first, second = (0.8142, 0.8244, 0.8255), (0.8102, 0.8266, 0.8190)
    found = paired_difference(seeds(*first), seeds(*second))
    assert found is not None
    # scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (0.27667, -0.83603, 1.38936), abs=2e-4
    )
    assert (found.seeds, found.verdict) == (3, "no difference shown")


def test_a_difference_is_shown_when_its_interval_leaves_out_zero() -> None:
    first, second = seeds(0.90, 0.91, 0.905, 0.92), seeds(0.88, 0.893, 0.884, 0.898)
    found, reverse = paired_difference(first, second), paired_difference(second, first)
    assert found is not None
    assert reverse is not None
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 1.65626, 2.34374), abs=2e-4)
    assert (found.verdict, reverse.verdict) == ("higher", "lower")


def test_only_seeds_of_both_arms_are_paired() -> None:
    found = paired_difference({0: 0.5, 1: 0.6, 2: 0.9}, {1: 0.5, 2: 0.7, 3: 0.1})
    assert found is not None
    assert (found.seeds, found.mean) == (2, pytest.approx(15))
    assert found.high - found.mean == pytest.approx(
        12.706204736 * 5, abs=1e-6
    )  # t of one degree of freedom
    assert paired_difference({0: 0.5}, {0: 0.4, 1: 0.4}) is None


def test_spread_is_in_per_cent() -> None:
    assert spread([0.8, 0.82]) == "81.00 ± 1.41"
    assert (spread([0.8]), spread([])) == ("80.00", "-")


@pytest.fixture
def _commands_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real commands, without a process each."""

    def execute(command: list[str]) -> None:
        module, *arguments = command
        assert {"mae_et": mae_et_main, "finetune": finetune_main}[module](arguments) == 0

    monkeypatch.setattr(_runs, "execute", execute)


@pytest.mark.usefixtures("_commands_here")
def test_arms_of_the_controls_budget_cost_the_same(tmp_path: Path) -> None:
    scale = SCALES["cpu"]
    scale = replace(scale, pretraining=scale.pretraining | {"data__num_images": 60_000})
    plans = study.Study(tmp_path, f"parquet:{FASHION_MNIST}", scale, scale.epochs)
    cost = {
        arm: plans.plan(arm)["exaflops"] / plans.plan("constant")["exaflops"] for arm in ARMS[1:]
    }
    for arm in ("control", "etpp", "etpp_hog", "low"):
        assert cost[arm] == pytest.approx(cost["et"], rel=0.02), arm
    assert cost["et"] == pytest.approx(0.604, abs=0.005)
    assert cost["fast"] == pytest.approx(0.159, abs=0.005)
    sizes = {arm: [stage["size"] for stage in plans.plan(arm)["stages"]] for arm in ARMS[1:]}
    assert sizes["control"] == [28]
    assert sizes["et"] == [20, 24, 28]
    assert sizes["etpp"] == sizes["etpp_hog"] == sizes["fast"] == [12, 20, 28]
    assert [stage["steps"] for stage in plans.plan("low")["stages"]][1:] == [1]

    same = [{**plans.fields(arm)} for arm in ("constant", "control", "et", "etpp", "low")]
    names = {name for name in set().union(*same) if name.startswith("model__")}
    assert all(fields.get(name) == same[0][name] for fields in same for name in names)
    for arm in ARMS[1:]:
        fields = plans.fields(arm)
        warmup, epochs = (float(str(fields[f"optim__{n}"])) for n in ("warmup_epochs", "epochs"))
        assert warmup / epochs == pytest.approx(1 / 8)


@pytest.mark.usefixtures("_commands_here")
def test_a_stopped_study_goes_on(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(SCALES, "cpu", TINY)
    file, data = tmp_path / "results.json", clothes.partition(":")[2]
    places = [f"--out={tmp_path / 'out'}", f"--results={file}", f"--data={data}"]
    command = [*places, "--arms", "none", "constant", "--seeds", "0"]
    execute, started = _runs.execute, []

    def stopped(arguments: list[str]) -> None:
        started.append(arguments)
        if "--mode=linear" in arguments:
            raise KeyboardInterrupt
        execute(arguments)

    monkeypatch.setattr(_runs, "execute", stopped)
    with pytest.raises(SystemExit, match="the same command continues"):
        study.main(command)
    results = json.loads(file.read_text())
    none, constant = results["runs"][:2]
    assert (none["arm"], constant["arm"], constant["seed"]) == ("none", "constant", 0)
    assert 0 <= constant["fine-tuned"] <= 1
    assert results["missing"][:3] == [
        "constant/0/linear",
        "constant/0/knn",
        "control/0/pretraining",
    ]
    assert len(results["missing"]) == 2 * 29 - 3

    started.clear()
    monkeypatch.setattr(
        _runs, "execute", lambda command: (started.append(command), execute(command))
    )
    study.main(command)
    assert [next(a for a in run if a.startswith("--mode=")) for run in started] == [
        "--mode=linear",
        "--mode=knn",
    ]
    results = json.loads(file.read_text())
    assert results["runs"][0] == none
    assert results["runs"][1]["pretraining"] == constant["pretraining"]
    assert results["runs"][1]["pretraining"]["seconds"] > 0
    assert len(results["missing"]) == 2 * 29 - 5
    assert results["arms"]["constant"]["plan"]["steps"] == 50
    row = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("constant ")
    )
    assert row.split()[1:3] == ["1.00", "1.00"]

    started.clear()
    places[0] = f"--out={tmp_path / 'elsewhere'}"
    study.main([*places, f"--known={file}", *command[3:]])
    assert all("plan" in run for run in started)
    again = json.loads(file.read_text())
    assert (again["runs"], again["missing"]) == (results["runs"], results["missing"])
    assert again["machines"][0] == results["machines"][0]
    longer = [f"--out={tmp_path / 'longer'}", *command[1:], "--epochs", "6"]
    with pytest.raises(SystemExit, match="--known must be the results of a study of these arms"):
        study.main([*longer, f"--known={file}"])

    started.clear()
    with pytest.raises(
        SystemExit, match=r"changed: optim.epochs: 5.0 -> 3.0, .*Remove .*or choose"
    ):
        study.main([*command, "--epochs", "3"])
    assert started == []
