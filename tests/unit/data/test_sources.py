"""Data sets by name, their splits, and what is held out of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from mae_et import data
from mae_et.data.labels import LabelledImages
from mae_et.data.paths import local_folder, parse_path
from tests.support.images import table
from tests.support.tables import picture_bytes, write_parquet, write_tar


def test_held_out_rows_of_memory_go_to_workers_alone() -> None:
    rows = table([Image.new("L", (8, 8), shade) for shade in range(20)], in_chans=1).rows
    _, held_out = data.train_and_eval_splits({"train": rows}, "train", None, 2, seed=0)
    assert held_out.data.num_rows == len(held_out) == 2


def test_sources_hold_the_same_images(clothes: str, image_folder: Path, tmp_path: Path) -> None:
    parquet = data.load_splits(clothes)["train"]
    parquet.save_to_disk(str(tmp_path / "saved"))
    file = f"parquet:{clothes.partition(':')[2]}/train.parquet"
    pixels = []
    for path in (clothes, file, f"disk:{tmp_path / 'saved'}", f"imagefolder:{image_folder}"):
        images = data.ImageTable(data.load_splits(path)["train"], "image", 1)
        pixels.append(
            sorted(np.asarray(images[row].decode()).tobytes() for row in range(len(images)))
        )
    assert len(pixels[0]) == 80
    assert pixels[0] == pixels[1] == pixels[2] == pixels[3]


def test_webdataset_shards(image_folder: Path, tmp_path: Path) -> None:
    """Two shards, by folder and by pattern; labels as "cls"."""
    files = sorted(image_folder.rglob("*.png"))
    for shard in range(2):
        with tarfile.open(tmp_path / f"shard-{shard}.tar", "w") as tar:
            for row, file in enumerate(files[shard::2]):
                label = str(int(file.parent.name[-1])).encode()
                for suffix, content in (("png", file.read_bytes()), ("cls", label)):
                    member = tarfile.TarInfo(f"{shard}-{row}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    expected = sorted(np.asarray(Image.open(file)).tobytes() for file in files)
    for path in (f"webdataset:{tmp_path}", f"webdataset:{tmp_path}/shard-*.tar"):
        rows = data.load_splits(path)["train"]
        images = data.ImageTable(rows, None, 1)
        pixels = [np.asarray(images[row].decode()).tobytes() for row in range(len(images))]
        assert sorted(pixels) == expected
        labels = LabelledImages(rows, "cls")
        assert np.bincount(labels.labels).tolist() == [8] * 10


def names(path: str) -> list[str]:
    tables = [data.ImageTable(rows, None, 3) for rows in data.load_splits(path).values()]
    return [table.name(row) for table in tables for row in range(len(table))]


def test_images_of_equal_names_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By file and row in it where tables hold them, in shards and in splits; else by their file."""
    monkeypatch.chdir(tmp_path)
    picture = picture_bytes(9)
    for shard in ("train/0", "train/1", "test/0"):
        write_tar(tmp_path / f"tar/{shard}.tar", {"7.png": picture, "8.png": picture})
        write_parquet(
            tmp_path / f"pq/{shard}.parquet", image=[{"bytes": picture, "path": "7.png"}] * 2
        )
    assert names("webdataset:tar") == [
        f"{shard}.tar row {row} ({name}.png)"
        for shard in ("train/0", "train/1", "test/0")
        for row, name in enumerate((7, 8))
    ]
    assert names("parquet:pq") == [
        f"{shard}.parquet row {row} (7.png)"
        for shard in ("train/0", "train/1", "test/0")
        for row in range(2)
    ]
    saved = {}
    for name in ("train", "test"):
        features = datasets.Features(image=datasets.Image())
        cells = {"image": [{"bytes": picture, "path": None}] * 2}
        saved[name] = datasets.Dataset.from_dict(cells, features=features)
    datasets.DatasetDict(saved).save_to_disk("disk")
    assert names("disk:disk") == ["train row 0", "train row 1", "test row 0", "test row 1"]
    Path("here/cat").mkdir(parents=True)
    Path("here/cat/7.png").write_bytes(picture)
    assert names("here") == ["here/cat/7.png"]


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_pattern_without_files(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"data.path '{kind}:.*holds no data set of this kind"):
        data.load_splits(f"{kind}:{tmp_path}/*.none")


def test_paths_without_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is a data set of the Hub; what can only be a file or a folder must exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "here").mkdir(parents=True)
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert parse_path("owner/name") == ("hub", "owner/name")
    assert parse_path("owner/name.v2@main") == ("hub", "owner/name.v2@main")
    assert parse_path("owner/here") == ("imagefolder", "owner/here")
    for path in (f"{tmp_path}/typo", "./typo", "../typo", "~/typo-of-mine", "typo.jpg", "a/b.zip"):
        with pytest.raises(ValueError, match=f"^data.path must exist, got {path!r}"):
            parse_path(path)
    with pytest.raises(ValueError, match=r"got './phto.jpg'; nearest: photo.jpg$"):
        parse_path("./phto.jpg")
    with pytest.raises(ValueError, match=rf"got the file 'photo.jpg', which is in .*{tmp_path}"):
        parse_path("photo.jpg")
    with pytest.raises(ValueError, match=r"data.path must be a folder that exists, hub:NAME"):
        parse_path("a/b/c")


def test_the_folder_that_data_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(b"")
    for path in (
        "in",
        "imagefolder:in/.",
        "parquet:in",
        "in/*.parquet",
        "parquet:in/{a,b}.parquet",
    ):
        assert local_folder(path) == tmp_path / "in"
    for path in ("in/a.parquet", "me/cats", "hub:cats", "parquet:https://x/*.parquet"):
        assert local_folder(path) is None


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("me/cats", ("me/cats", None, None)),
        ("me/cats:small", ("me/cats", "small", None)),
        ("me/cats@refs/convert/parquet", ("me/cats", None, "refs/convert/parquet")),
        ("cats:small@v1.0", ("cats", "small", "v1.0")),
    ],
)
def test_hub_locations(
    location: str, expected: tuple[str | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(path: str, name: str | None, revision: str | None) -> datasets.Dataset:
        asked.append((path, name, revision))
        return datasets.Dataset.from_dict({"image": [1]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(data.load_splits(f"hub:{location}")) == ["train"]
    assert asked == [expected]


def test_held_out_images_come_from_the_training_split_if_there_is_no_other(
    image_folder: Path,
) -> None:
    path = f"imagefolder:{image_folder}"
    train, held_out = data.train_and_eval_splits(data.load_splits(path), "train", None, 10, seed=0)
    again, _ = data.train_and_eval_splits(data.load_splits(path), "train", None, 10, seed=0)
    assert (len(train), len(held_out)) == (72, 8)  # a tenth at most
    rows = [
        {row["image"]["path"] for row in split.cast_column("image", datasets.Image(decode=False))}
        for split in (train, held_out, again)
    ]
    assert not rows[0] & rows[1]
    assert rows[0] == rows[2]


def test_where_a_path_lies_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = tmp_path / "a" / "x-0.parquet"
    file.touch()
    assert data.local_path(f"{tmp_path}/a") == tmp_path / "a"
    assert data.local_path(str(file)) == file
    assert data.local_path(f"parquet:{tmp_path}/a/x-*.parquet") == tmp_path / "a"
    assert data.local_path(f"webdataset:{tmp_path}/a/{{b,c}}/*.tar") == tmp_path / "a"
    assert data.local_path("hub:owner/name") is None
    assert data.local_path("python:module:function") is None


def test_a_column_that_names_splits_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of metadata and of tables; not if it is true of all rows, or holds something else."""
    said = "the column 'part' says Test, train, while all rows are taken for 'train'"
    cells: dict[str, list[str | None]] = {
        "told": ["train", "Test", None],
        "one": ["train"] * 3,
        "class": ["train", "test", "car"],
    }
    for name, parts in cells.items():
        folder = tmp_path / name
        folder.mkdir()
        lines = [f"{row}.png,{part or ''}\n" for row, part in enumerate(parts)]
        for row in range(3):
            Image.new("L", (8, 8)).save(folder / f"{row}.png")
        (folder / "metadata.csv").write_text("".join(["file_name,part\n", *lines]))
        paths = [str(folder / f"{row}.png") for row in range(3)]
        write_parquet(folder / "t.parquet", path=paths, part=parts)
        for path in (str(folder), str(folder / "t.parquet")):
            caplog.clear()
            data.load_splits(path)
            assert (said in caplog.text) == (name == "told")
