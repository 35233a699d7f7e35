"""Packed data: what is in them, the same bytes whatever happens, and what is refused."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from mae_et import data
from mae_et.errors import RunStoppedError
from mae_et.packing import FORMATS, PackSummary, pack, packer
from mae_et.packing.shards import ParquetShard
from mae_et.packing.state import PackState
from tests.support.images import encode
from tests.support.photos import CLASSES, photo, photo_folder
from tests.support.tables import write_tar


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos") / "photos")


def packed(source: Any, out: Path, **options: Any) -> PackSummary:
    small: dict[str, Any] = {"short_side": 64, "num_workers": 0, "measure": False}
    return pack(str(source), out, **(small | options))


def files_of(out: Path) -> dict[str, bytes]:
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}


def good_files(source: Path, split: str) -> list[Path]:
    files = [file for file in (source / split).rglob("*") if file.is_file()]
    return sorted((f for f in files if f.stem not in ("bad", "cut")), key=str)


@pytest.mark.parametrize("format", FORMATS)
def test_splits_labels_names_and_order_are_kept(photos: Path, tmp_path: Path, format: str) -> None:
    summary = packed(photos, tmp_path / "out", format=format, shard_mb=0.02)
    assert summary.path == f"{format}:{tmp_path / 'out'}"
    assert summary.images == {"train": 39, "validation": 6}
    assert (summary.resized, summary.copied, summary.unchanged, summary.bad_images) == (42, 1, 2, 2)
    shards = list((tmp_path / "out" / "data").iterdir())
    assert summary.num_shards == len(shards) > 3
    assert summary.bytes_after == sum(shard.stat().st_size for shard in shards)
    splits = data.load_splits(summary.path)
    assert list(splits) == ["train", "validation"]
    for split, folder in (("train", "train"), ("validation", "val")):
        labelled = data.LabelledImages(splits[split], None)
        assert labelled.class_names == list(CLASSES)
        expected = good_files(photos, folder)
        assert [CLASSES[label] for label in labelled.labels] == [f.parent.name for f in expected]
        assert original_names(splits[split]) == [str(f.relative_to(photos)) for f in expected]
        images = data.ImageTable(splits[split], None, 3)
        for row, file in enumerate(expected):
            if file.name in ("small.jpg", "deep.png", "bands.npy"):
                assert data.read_cell(*images.cell(row)) == file.read_bytes()
            else:
                assert images[row].size == (64, 94)
                own = Image.open(file).resize((94, 64), Image.Resampling.BICUBIC)
                pixels: Any = images[row].decode()
                assert np.abs(np.asarray(pixels).astype(float) - np.asarray(own)).mean() < 2


def original_names(split: datasets.Dataset) -> list[str]:
    if "json" in split.column_names:
        return [json.loads(text)["file_name"] for text in split["json"]]
    cells = data.undecoded(split, data.image_column(split, None))
    return [row["image"]["path"] or "" for row in cells]


def test_bad_images_are_listed(photos: Path, tmp_path: Path) -> None:
    packed(photos, tmp_path / "out")
    lines = (tmp_path / "out" / "bad_images.txt").read_text().splitlines()
    names, reasons = zip(*(line.split("\t") for line in lines), strict=True)
    assert [Path(name).name for name in names] == ["bad.jpg", "cut.jpg"]
    assert reasons[0] == "no image"
    assert "truncated" in reasons[1]


@pytest.mark.parametrize("format", FORMATS)
def test_workers_do_not_change_a_byte(photos: Path, tmp_path: Path, format: str) -> None:
    for workers in (0, 2):
        out = tmp_path / str(workers)
        packed(photos, out, format=format, num_workers=workers, shard_mb=0.03)
    assert files_of(tmp_path / "0") == files_of(tmp_path / "2")


def stop_at(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Let the call of that number be interrupted before it does anything."""
    original, calls = getattr(owner, name), count(1)

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(owner, name, call)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (packer._OpenShard, "add", 4),  # in the middle of a shard
        (Path, "replace", 2),  # a complete shard without a name
        (PackState, "write", 3),  # a shard and its bad images, not recorded
        (PackState, "write", 4),
        (PackState, "finish", 1),
        (Path, "rename", 2),  # one shard has its last name
        (Path, "rename", 5),  # all of them have, and the folder has not
    ],
)
def test_a_stopped_command_goes_on_to_the_same_bytes(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    owner: Any,
    name: str,
    number: int,
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert packed(photos, whole, format=format, shard_mb=0.02).num_shards == 4
    with monkeypatch.context() as patch:
        stop_at(patch, owner, name, number)
        with pytest.raises(KeyboardInterrupt):
            packed(photos, out, format=format, shard_mb=0.02)
    assert not (out / "data").exists()
    with pytest.raises(ValueError, match=r"data\.path"):
        data.load_splits(f"{format}:{out}")
    packed(photos, out, format=format, shard_mb=0.02)
    assert files_of(out) == files_of(whole)


def test_a_second_call_changes_nothing(photos: Path, tmp_path: Path) -> None:
    first = packed(photos, tmp_path / "out")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    assert packed(photos, tmp_path / "out") == first
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"short_side": 32}, r"--short_side must be 64, with which .* was begun .*, got 32"),
        ({"quality": 80}, "--quality must be 92, with which"),
        ({"format": "webdataset"}, "--format must be 'parquet', with which"),
        ({"layout": "flat"}, r"--data\.layout must be 'auto', with which"),
    ],
)
def test_other_options_are_refused(
    photos: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    packed(photos, tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        packed(photos, tmp_path / "out", **change)


def test_other_images_are_refused(tmp_path: Path) -> None:
    source = photo_folder(tmp_path / "photos", per_class=1)
    packed(source, tmp_path / "out")
    (source / "train" / "cat" / "bad.jpg").unlink()
    with pytest.raises(ValueError, match=r"--data\.path must be the images with which"):
        packed(source, tmp_path / "out")
    (tmp_path / "out" / "data" / "train-00000-of-00001.parquet").unlink()
    (source / "train" / "cat" / "bad.jpg").write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"without train-00000-of-00001\.parquet: remove"):
        packed(source, tmp_path / "out")


@pytest.mark.parametrize("out", ["photos", "photos/train/packed", ".", "full", "file"])
def test_folders_that_hold_something_else_are_refused(tmp_path: Path, out: str) -> None:
    source = photo_folder(tmp_path / "photos", per_class=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"^--out must be"):
        packed(source, tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 0}, "--quality must be from 1 to 100, got 0"),
        ({"quality": 101}, "--quality must be from 1 to 100, got 101"),
        ({"short_side": 0}, "--short_side must be above 0, got 0"),
        ({"shard_mb": 0}, "--shard_mb must be above 0, got 0"),
        ({"num_workers": -1}, "--num_workers must be at least 0, got -1"),
        ({"format": "zip"}, "--format must be parquet or webdataset, got 'zip'"),
    ],
)
def test_bad_options(photos: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed(photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_nothing_readable_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"got 1 of which none is readable; first: .*no image"):
            packed(tmp_path / "photos", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_split_without_readable_images_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = photo_folder(tmp_path / "photos", per_class=1)
    for file in (source / "val").rglob("*.jpg"):
        file.write_bytes(b"no image")
    assert list(packed(source, tmp_path / "out").images) == ["train"]
    assert "the split validation has no readable image and is left out" in caplog.text


def test_a_full_disk_is_one_line_and_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ParquetShard, "close", full)
        with pytest.raises(RunStoppedError, match=r"no space is left; the same command goes on"):
            packed(photos, tmp_path / "out")
    assert not (tmp_path / "out" / ".data" / "unfinished.tmp").exists()
    assert packed(photos, tmp_path / "out") == replace(
        packed(photos, tmp_path / "whole"), out=tmp_path / "out"
    )


def test_a_folder_in_use_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    hold = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "out" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match=r"--out must be free, got .*, in use by another"):
            packed(photos, tmp_path / "out")
        other.kill()


def test_lines_now_and_then_where_there_is_no_terminal(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mae_et.terminal.EVERY", 0)
    packed(photos, tmp_path / "out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("packed")]
    assert len(lines) == 7  # one a batch: six of train
    assert lines[-1].startswith("packed 47 of 47 images, ")


def test_streams_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must give data sets of random access here"):
        packed("python:tests.support.own_images:own_stream", tmp_path / "out")


def table_on_disk(folder: Path) -> str:
    """A split of a name of its own, with labels in another order, and further columns."""
    images = [{"bytes": encode(photo(n)), "path": f"{n}.jpg"} for n in range(5)]
    features = {
        "picture": datasets.Image(),
        "kind": datasets.ClassLabel(names=["zebra", "ant"]),
        "weight": datasets.Value("float32"),
        "caption": datasets.Value("string"),
        "boxes": datasets.List(datasets.List(datasets.Value("int32"))),
    }
    columns = {
        "picture": images,
        "kind": [0, 1, None, 1, 0],
        "weight": [0.5, 1, 2, None, 4],
        "caption": ["a", "b\nc", None, "d", "ü"],
        "boxes": [[[1, 2]], [], [[3, 4], [5, 6]], None, [[7]]],
    }
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    datasets.DatasetDict({"labelled.v1": table}).save_to_disk(folder)
    return f"disk:{folder}"


def test_further_columns_in_parquet(tmp_path: Path) -> None:
    source = table_on_disk(tmp_path / "source")
    summary = packed(source, tmp_path / "out")
    before = data.load_splits(source)["labelled.v1"]
    after = data.load_splits(summary.path)["labelled.v1"].remove_columns(data.ORIGIN)
    assert after.features == before.features
    assert after.remove_columns("picture")[:] == before.remove_columns("picture")[:]
    cells = after.cast_column("picture", datasets.Image(decode=False))["picture"]
    assert [cell["path"] for cell in cells] == [f"{n}.jpg" for n in range(5)]


def test_further_columns_in_tar_files(tmp_path: Path) -> None:
    source = table_on_disk(tmp_path / "source")
    summary = packed(source, tmp_path / "out", format="webdataset")
    after = data.load_splits(summary.path)["labelled.v1"]
    assert after["label"][:] == ["zebra", "ant", None, "ant", "zebra"]
    assert after["cls"][:] == [0, 1, None, 1, 0]
    assert after["caption"][:] == ["a", "b\nc", None, "d", "ü"]
    rest = [json.loads(text) for text in after["json"]]
    assert [row["file_name"] for row in rest] == [f"{n}.jpg" for n in range(5)]
    assert rest[2] | {"file_name": ""} == {
        "file_name": "",
        "weight": 2.0,
        "boxes": [[3, 4], [5, 6]],
    }


def test_columns_of_tar_files_stay_columns(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(4):
        members |= {f"{number}.jpg": encode(photo(number)), f"{number}.cls": b"%d" % (number % 2)}
        members |= {f"{number}.txt": b"words", f"{number}.json": b'{"a": 1}'}
    source = write_tar(tmp_path / "source.tar", members)
    for format in FORMATS:
        summary = packed(f"webdataset:{source}", tmp_path / format, format=format)
        after = data.load_splits(summary.path)["train"]
        assert after["cls"][:] == [0, 1, 0, 1]
        assert after["txt"][:] == ["words"] * 4
        assert after["json"][:] == ['{"a": 1}'] * 4


def test_labels_that_are_numbers_are_found(tmp_path: Path) -> None:
    images = [{"bytes": encode(photo(n)), "path": None} for n in range(3)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": images, "label": [2, 0, 1]}, features=features)
    rows.save_to_disk(tmp_path / "source")
    summary = packed(f"disk:{tmp_path / 'source'}", tmp_path / "out", format="webdataset")
    assert summary.lines()[-1].endswith("--data.label_column cls")
    labelled = data.LabelledImages(data.load_splits(summary.path)["train"], "cls")
    assert labelled.labels.tolist() == [2, 0, 1]


def test_arrays_and_second_images(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65536, (2, 5, 90, 70), np.uint16)
    features = datasets.Features({"bands": datasets.Array3D((5, 90, 70), "uint16")})
    rows = datasets.Dataset.from_dict({"bands": array}, features=features)
    rows.save_to_disk(tmp_path / "arrays")
    for format in FORMATS:
        summary = packed(f"disk:{tmp_path / 'arrays'}", tmp_path / format, format=format)
        images = data.ImageTable(data.load_splits(summary.path)["train"], None, 5)
        found = [images[row] for row in range(2)]
        assert all(isinstance(image, data.ArrayImage) for image in found)
        pixels = np.stack([image.pixels for image in found if isinstance(image, data.ArrayImage)])
        np.testing.assert_array_equal(pixels, array)
    (tmp_path / "mask.png").write_bytes(encode(photo(1), "PNG"))
    two = {
        "image": [{"bytes": encode(photo(0)), "path": None}],
        "mask": [{"bytes": None, "path": str(tmp_path / "mask.png")}],
    }
    features = datasets.Features(dict.fromkeys(two, datasets.Image()))
    datasets.Dataset.from_dict(two, features=features).save_to_disk(tmp_path / "two")
    summary = packed(f"disk:{tmp_path / 'two'}", tmp_path / "masks", image_column="image")
    (tmp_path / "mask.png").unlink()
    after = data.load_splits(summary.path)["train"]
    assert after[0]["mask"].size == (176, 120)
    with pytest.raises(ValueError, match="--format must be parquet to keep the column 'mask'"):
        packed(
            f"disk:{tmp_path / 'two'}",
            tmp_path / "tar",
            image_column="image",
            format="webdataset",
        )


@pytest.mark.parametrize("format", FORMATS)
def test_the_loader_is_measured(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr("mae_et.packing.speed.SECONDS", 0.05)
    summary = packed(photos, tmp_path / "out", format=format, measure=True)
    assert summary.speed is not None
    assert summary.speed.size == 64
    assert summary.speed.before > 0 < summary.speed.after
    assert str(summary.speed) in summary.lines()
