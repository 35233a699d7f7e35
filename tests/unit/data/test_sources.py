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
from tests.support.images import table
from tests.support.tables import write_parquet


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


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_pattern_without_files(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"data.path '{kind}:.*holds no data set of this kind"):
        data.load_splits(f"{kind}:{tmp_path}/*.none")


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
