"""Arms: runs that differ in their seeds alone, and the scores that follow them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mae_et.report.html import Value
from mae_et.report.sections import accuracies, name_tasks
from tests.support.run_folders import arms_of, finetuning, lines, pretraining


def test_seeds_are_grouped_and_scores_follow_their_checkpoint(study: Path) -> None:
    arms = arms_of(study)
    assert list(arms) == ["long", "short", "scratch"]
    names = name_tasks(list(arms.values()))
    scores = {
        (arm.name, names[task]): [run.top1[task.kind] for run in runs]
        for arm in arms.values()
        for task, variants in arm.scores.items()
        for runs in variants.values()
    }
    assert scores == {
        ("long", "fine-tuned, 80 labels"): [0.8, 0.84],
        ("long", "knn probe, 80 labels"): [0.66],
        ("short", "fine-tuned, 80 labels"): [0.7, 0.75],
        ("scratch", "fine-tuned, 80 labels"): [0.5, 0.6],
    }
    assert arms["long"].seconds == [8.0, 9.0]
    assert arms["long"].eval_losses == [0.5, 0.6]
    assert arms["scratch"].seconds == []


def test_a_probe_while_pretraining_is_named_by_what_it_measures_on(tmp_path: Path) -> None:
    for name, epochs in (("long", 2), ("short", 1)):
        run = pretraining(tmp_path / name, 0, lines((10, 16, 160, 1.0)), epochs=epochs)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["data"]["path"] = f"parquet:{name}"
        config["eval"] = {"path": "parquet:labelled", "images": 50}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with (run / "metrics.jsonl").open("a") as file:
            file.write('\n{"step": 10, "knn_top1": 0.5}')
    arms = arms_of(tmp_path)
    (task,) = {task for arm in arms.values() for task in arm.scores}
    assert (task.kind, task.data, task.train_images) == ("knn", "parquet:labelled", 50)


def knn_scores(folder: Path, *, labelled: bool = True, **data: Any) -> None:
    """What a probe writes; of older versions, without what it depends on."""
    folder.mkdir(parents=True)
    scores = {"checkpoint": "x", "train_images": 96, "test_images": 24, "k": 20}
    scores |= {"top1": float(data.pop("top1", 0.5))}
    images = {"digest": str(data.pop("digest", "a-b"))}
    if labelled:
        scores |= {"data": {"path": "x", "split": "train", **data}, "images": images}
    (folder / "knn.json").write_text(json.dumps(scores))


def test_probes_are_averaged_on_the_same_data_alone(tmp_path: Path) -> None:
    for seed, top1 in enumerate((0.5, 0.7)):
        knn_scores(tmp_path / f"same_{seed}", top1=top1, label_seed=seed)
    knn_scores(tmp_path / "path", path="parquet:other", top1=0.1)
    knn_scores(tmp_path / "column", label_column="kind", top1=0.2)
    knn_scores(tmp_path / "changed", digest="a-c", top1=0.3)
    knn_scores(tmp_path / "old_0", labelled=False, top1=0.4)
    knn_scores(tmp_path / "old_1", labelled=False, top1=0.9)
    (arm,) = arms_of(tmp_path).values()
    found = {
        task.data: sorted(sorted(run.top1["knn"] for run in runs) for runs in variants.values())
        for task, variants in arm.scores.items()
    }
    assert found == {
        "x": [[0.2], [0.3], [0.5, 0.7]],
        "parquet:other": [[0.1]],
        None: [[0.4], [0.9]],
    }
    (unknown,) = (task for task in arm.scores if task.data is None)
    assert accuracies(arm, unknown) == [
        Value("40.00", " (1)", f"data unknown, in {tmp_path}/old_0"),
        Value("90.00", " (1)", f"data unknown, in {tmp_path}/old_1"),
    ]


def test_the_choice_of_labels_makes_no_arm(study: Path) -> None:
    for seed in range(2):
        file = study / f"tuned_long_{seed}" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["images"]["digest"] = f"a-b-{seed}"  # the last part is that of the chosen labels
        file.write_text(yaml.safe_dump(config))
    (variants,) = [v for task, v in arms_of(study)["long"].scores.items() if task.kind != "knn"]
    assert list(map(len, variants.values())) == [2]


def test_another_setting_is_another_arm_or_line(study: Path) -> None:
    finetuning(study / "tuned_other", 0, study / "long_0" / "encoder", 0.9, layer_decay=0.5)
    (variants,) = [v for task, v in arms_of(study)["long"].scores.items() if task.kind != "knn"]
    assert sorted(map(len, variants.values())) == [1, 2]
    pretraining(study / "long_wide", 0, lines((10, 16, 160, 1.0)), epochs=4, weight_decay=0.1)
    names = arms_of(study).keys()
    assert names == {"long", "short", "long_wide", "scratch"}


def test_how_a_run_is_logged_makes_no_arm(tmp_path: Path) -> None:
    windows = lines((10, 16, 160, 1.0))
    for number, every in enumerate((10, 50)):
        folder = pretraining(tmp_path / f"run_{number}", 0, windows)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["run"] |= {"log_every": every, "checkpoint_every": every, "progress": every == 10}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (arm,) = arms_of(tmp_path).values()
    assert len(arm.runs) == 2


def test_a_name_too_long_for_a_chart_is_a_number(tmp_path: Path) -> None:
    windows = lines((10, 16, 160, 1.0))
    for epochs in (2, 3):
        folder = tmp_path / ("a" * 70 + str(epochs)) / "run"
        further: dict[str, Any] = {"b" * 70: epochs}
        pretraining(folder, 0, windows, epochs=epochs, **further)
    assert set(arms_of(tmp_path)) == {"arm 1", "arm 2"}


def test_a_name_keeps_numbers_that_are_no_seed(tmp_path: Path) -> None:
    """Seed 0 is no part of 100, nor seed 5 of 75."""
    windows = lines((10, 16, 160, 1.0))
    pretraining(tmp_path / "steps_100", 0, windows, epochs=2)
    pretraining(tmp_path / "mask_75", 5, windows, epochs=3)
    pretraining(tmp_path / "wide_s5", 5, windows, epochs=4)
    assert set(arms_of(tmp_path)) == {"steps_100", "mask_75", "wide"}


def test_a_moved_tree_keeps_its_links(study: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved" / "deeper"
    moved.mkdir(parents=True)
    for run in [run for run in study.iterdir() if run.name != "moved"]:
        run.rename(moved / run.name)
    assert sum(map(len, arms_of(moved)["long"].scores.values())) == 2
    unknown = arms_of(moved / "tuned_long_0")
    checkpoint = study / "long_0" / "encoder"
    assert list(unknown) == [f"from {checkpoint} (its pretraining is not given)"]


def test_a_moved_run_belongs_to_the_longest_path_that_fits(tmp_path: Path) -> None:
    """Another arm's run of the same name lies nearer."""
    windows = lines((10, 16, 160, 1.0))
    for name, epochs in (("long", 4), ("short", 2)):
        pretraining(tmp_path / name / "seed_0", 0, windows, epochs=epochs)
    finetuning(tmp_path / "short" / "tuned", 0, "gone/long/seed_0/encoder", 0.8)
    assert {name: len(arm.scores) for name, arm in arms_of(tmp_path).items()} == {
        "long": 1,
        "short": 0,
    }
