"""`mae_et embed`: timm's own features, the same bytes after a kill and with more processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch import Tensor

from mae_et.__main__ import main
from mae_et.data.sources import load_splits
from mae_et.embedding.parts import Parts
from tests.support.arguments import tiny
from tests.support.images import damaged_folder
from tests.support.launch import launch_two, run_one, run_two


def arguments(checkpoint: Path, path: object, out: Path, **changes: object) -> list[str]:
    """A command line of parts of 8 images, and so of more parts than one."""
    options = {"checkpoint": checkpoint, "data.path": path, "out": out, "batch_size": 8}
    options |= {"data.num_workers": 0, **{k.replace("__", "."): v for k, v in changes.items()}}
    return ["embed", *(f"--{name}={value}" for name, value in options.items())]


def of_timm(folder: Path, images: Any, **resolved: Any) -> Tensor:
    """The average of the patches' outputs, by timm alone."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config(resolved, model=model))
    with torch.no_grad():
        batch = torch.stack([transform(image) for image in images])
        return model.forward_features(batch)[:, 1:].mean(dim=1)


def test_features_are_those_of_timm(finished: Path, clothes: str, tmp_path: Path) -> None:
    splits = load_splits(clothes)
    images = [row["image"] for split in splits.values() for row in split]
    expected = of_timm(finished / "encoder", images)
    assert expected.std() > 0.1
    out = {kind: tmp_path / f"features.{kind}" for kind in ("parquet", "npy", "csv")}
    assert main(arguments(finished, clothes, out["parquet"])) == 0
    assert main(arguments(finished / "encoder", clothes, tmp_path / "other" / "f.npy")) == 0

    table = pq.read_table(out["parquet"])
    assert table.column_names == ["file", "split", "label", "vector"]
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[16]"
    vectors = np.stack(table["vector"].to_pylist()).astype(np.float32)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)
    assert table["split"].to_pylist() == [s for s, rows in splits.items() for _ in rows]
    names = splits["train"].features["label"].names
    labels = [names[label] for rows in splits.values() for label in rows["label"]]
    assert table["label"].to_pylist() == labels
    assert table["file"].to_pylist()[78:82] == [
        *("train.parquet row 78", "train.parquet row 79", "test.parquet row 0"),
        "test.parquet row 1",
    ]
    assert not list(tmp_path.glob("*.parts"))

    assert np.array_equal(np.load(tmp_path / "other" / "f.npy"), vectors)
    assert pyarrow.csv.read_csv(tmp_path / "other" / "f.csv") == table.drop_columns(["vector"])
    assert main(arguments(finished, clothes, out["csv"], data__split="test")) == 0
    text = pyarrow.csv.read_csv(out["csv"])
    assert text.column_names[2:5] == ["label", "feature_0", "feature_1"]
    numbers = np.stack([text[f"feature_{n}"].to_numpy() for n in range(16)], axis=1)
    assert np.array_equal(numbers.astype(np.float32), vectors[80:])  # each reads back as it was


def test_a_killed_command_goes_on(
    finished: Path, clothes: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    assert main(arguments(finished, clothes, whole)) == 0
    command = arguments(finished, clothes, killed)
    parts = Parts(tmp_path / "killed.parquet.parts", 110, 8)

    def kill(point: str) -> None:
        result = run_one(["tests.support.killed_embed", point, *command[1:]])
        assert result.returncode == -9, result.stderr
        assert not killed.exists()

    kill("5")
    assert parts.missing() == list(range(5, 14))
    sealed = {part: parts.file(part).stat().st_mtime_ns for part in range(5)}
    parts.file(3).write_bytes(parts.file(3).read_bytes()[:100])  # as a full disk may leave it
    assert parts.missing() == [3, *range(5, 14)]
    kill("join")
    assert parts.missing() == []
    del sealed[3]
    assert {part: parts.file(part).stat().st_mtime_ns for part in sealed} == sealed
    assert main(command) == 0
    assert "resuming: 14 of 14 parts are there" in capfd.readouterr().err
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("killed.parquet", "killed.parquet.json", "whole.parquet", "whole.parquet.json")
    ]

    assert main(command) == 2  # it is finished
    assert "--out must be new" in capfd.readouterr().err
    before = killed.stat().st_mtime_ns
    assert main([*command, "--resume", "auto"]) == 0
    assert "is finished" in capfd.readouterr().err
    assert killed.stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_processes_and_workers_write_the_same(
    finished: Path, clothes: str, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert main(arguments(finished, clothes, one)) == 0
    result = run_two(["mae_et", *arguments(finished, clothes, two, data__num_workers=3)])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("110 images") == 1
    assert one.read_bytes() == two.read_bytes()
    result = launch_two(["mae_et", *arguments(finished, clothes, two, data__num_workers=0)])
    assert result.returncode != 0
    assert result.stderr.count("error: --out must be new") == 1


def test_unreadable_images_have_no_row(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged_folder(image_folder, tmp_path / "data", 4)
    assert main(arguments(finished, folder, tmp_path / "f.parquet")) == 0
    assert "76 images" in capsys.readouterr().out
    files = sorted(folder.rglob("*.png"))
    table = pq.read_table(tmp_path / "f.parquet")
    found = [Path(file).name for file in table["file"].to_pylist()]
    assert found == [file.name for file in files[4:]]
    assert table["label"].to_pylist() == [file.parent.name for file in files[4:]]
    lines = (tmp_path / "f.parquet.bad_images.txt").read_text().splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == [
        file.name for file in files[:4]
    ]
    for file in files:
        file.write_bytes(b"no image")
    assert main(arguments(finished, folder, tmp_path / "none.csv")) == 2
    err = capsys.readouterr().err
    assert "data.path must hold readable images, not 80 of which none is" in err
    assert len((tmp_path / "none.csv.bad_images.txt").read_text().splitlines()) == 80
    assert [file.name for file in tmp_path.glob("none*")] == ["none.csv.bad_images.txt"]


def test_parts_of_other_features_are_refused_by_name(
    finished: Path,
    clothes: str,
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "f.parquet"
    command = arguments(finished, clothes, out)
    result = run_one(["tests.support.killed_embed", "3", *command[1:]])
    assert result.returncode == -9
    other = tmp_path / "other"
    assert main(["pretrain", *tiny(clothes, other, run__seed=1, run__eval_every="null")]) == 0
    for changes, name in (
        ({"pool": "token"}, "another pool (avg, now token)"),
        ({"checkpoint": other}, f"another checkpoint ({finished}, now {other})"),
        ({"path": image_folder}, f"another data ({clothes}, now {image_folder})"),
        ({"data__split": "test"}, "with another splits (['train', 'test'], now ['test'])"),
        ({"data__eval_crop": 1.0}, "another crop_pct (0.875, now 1.0)"),
        ({"data__mean": "[0.5]"}, "another mean ([0.3], now [0.5])"),
    ):
        capsys.readouterr()
        options: dict[str, Any] = {"checkpoint": finished, "path": clothes, "out": out}
        assert main(arguments(**{**options, **changes})) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert len(errors) == 1
        assert name in errors[0]
    assert main([*arguments(finished, clothes, out, pool="token"), "--overwrite"]) == 0
    assert json.loads((tmp_path / "f.parquet.json").read_text())["job"]["pool"] == "token"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"out": "features.txt"}, "--out must be a file with one of .parquet, .npy, .csv"),
        ({"pool": "map"}, "--pool must be one of avg, token, which are all that"),
        ({"model__in_chans": 3}, "model.in_chans must be 1, the channels of checkpoint"),
        ({"model__patch_size": 8}, "patch size 4 for 8"),
        (
            {"model__image_size": 18},
            "a multiple of the patch size (4, 4), got (18, 18)",
        ),
        ({"model__encoder": "vit_tinny"}, "model.encoder must be the name of a timm model"),
        ({"model__encoder": "a.b:c"}, "constructors of your own have no features"),
        ({"data__mean": "[0.5, 0.5]"}, "data.mean must be 1 numbers, one per channel"),
        ({"data__split": "val"}, "data.split must be one of train, test"),
        ({"data__label_column": "name"}, "data.label_column must be one of label, got 'name'"),
        ({"data__streaming": "true"}, "data.streaming must be false"),
        ({"data__eval_crop": 0}, "data.eval_crop must be in (0, 1]"),
        ({"batch_size": 0}, "--batch_size must be above 0"),
        ({"resume": "auto", "overwrite": ""}, "--overwrite"),
        ({"checkpoint": "nowhere"}, "checkpoint must exist, got nowhere"),
    ],
)
def test_bad_input_is_one_line(
    finished: Path,
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    expected: str,
) -> None:
    options = {"checkpoint": finished, "path": clothes, "out": tmp_path / "f.npy", **changes}
    command = [part.removesuffix("=") for part in arguments(**options)]
    assert main(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert not list(tmp_path.iterdir())
