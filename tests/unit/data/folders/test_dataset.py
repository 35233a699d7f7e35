"""Folders of images as data sets: their order, metadata, layouts that are asked for, and memory."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from mae_et.data import ImageTable, load_splits
from mae_et.data.labels import LabelledImages


def make(root: Path, files: Iterable[str]) -> str:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"not decoded here")
    return f"imagefolder:{root}"


def files_of(rows: datasets.Dataset, root: Path) -> list[str]:
    table = ImageTable(rows, None, 3)
    return [table.name(row).removeprefix(f"{root}/") for row in range(len(table))]


@pytest.mark.parametrize(
    "files",
    [
        ["b.png", "a.png", "B.png", "a-1.png", "a1.png"],
        ["train/b/0.png", "train/b-c/0.png", "train/a/10.png", "train/a/9.png", "test/a/0.png"],
        ["car/z/0.png", "car/0.png", "car/zz.png", "bus/1.png"],
    ],
)
def test_rows_are_in_the_order_of_datasets(tmp_path: Path, files: list[str]) -> None:
    """So that a run that began with their order resumes in the same one."""
    splits = load_splits(make(tmp_path, files))
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path))
    for name, rows in splits.items():
        paths = theirs[name].cast_column("image", datasets.Image(decode=False))["image"]
        assert files_of(rows, tmp_path) == [
            cell["path"].removeprefix(f"{tmp_path}/") for cell in paths
        ]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("class/split", {"train": "car car dog", "test": "car dog"}),
        ("class", {"train": "car car car dog dog"}),
        ("flat", {"train": None}),
    ],
)
def test_a_layout_that_is_asked_for(
    tmp_path: Path, layout: str, expected: dict[str, str | None]
) -> None:
    files = ("car/train/0.png", "car/train/1.png", "car/test/0.png", "dog/Train/0.png")
    splits = load_splits(make(tmp_path, [*files, "dog/testing/0.png"]), layout)
    assert splits.keys() == expected.keys()
    for name, classes in expected.items():
        labels = splits[name].features.get("label")
        assert (labels and " ".join(labels.int2str(splits[name]["label"][:]))) == classes


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    path = make(tmp_path, ["car/0.png", "dog/0.png"])
    with pytest.raises(ValueError, match=r"data\.layout must find splits in .*, got 'split"):
        load_splits(path, "split/class")
    with pytest.raises(ValueError, match=r"data\.layout must be auto, .*, got 'classes'"):
        load_splits(path, "classes")
    with pytest.raises(ValueError, match=r"data\.layout must be auto for data that are no"):
        load_splits(f"disk:{tmp_path}", "class")


METADATA = [
    {"file_name": "a/1.png", "species": "owl", "weight": 2.5},
    {"file_name": "0.png", "species": "kite", "weight": 1.0},
    {"file_name": "a/gone.png", "species": "owl", "weight": 9.0},
]


def write_metadata(file: Path, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows)
    if file.suffix == ".csv":
        pa.csv.write_csv(table, file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        pyarrow.parquet.write_table(table, file)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_are_joined_by_file_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    path = make(tmp_path, ["0.png", "a/1.png", "a/2.png"])
    write_metadata(tmp_path / f"metadata.{ending}", METADATA)
    rows = load_splits(path)["train"]
    assert files_of(rows, tmp_path) == ["0.png", "a/1.png", "a/2.png"]
    assert rows["species"][:] == ["kite", "owl", None]
    assert rows["weight"][:] == [1.0, 2.5, None]
    assert "label" not in rows.features  # one folder among metadata is no class
    said = capsys.readouterr().err
    assert ": 3 images; not used: 1 row of metadata without an image" in said
    labelled = LabelledImages(rows, "species")
    assert labelled.class_names == ["kite", "owl"]
    assert labelled.labels.tolist() == [0, 1]
    assert "1 of the 3 images of train have no label" in capsys.readouterr().err


def test_metadata_of_each_split_and_of_classes(tmp_path: Path) -> None:
    files = ["train/car/0.png", "train/dog/0.png", "test/car/0.png", "test/dog/1.png"]
    path = make(tmp_path, files)
    write_metadata(
        tmp_path / "train" / "metadata.csv", [{"file_name": "dog/0.png", "text": "woof"}]
    )
    write_metadata(tmp_path / "test/metadata.jsonl", [{"file_name": "dog/1.png", "age": 3}])
    splits = load_splits(path)
    assert splits["train"]["text"][:] == [None, "woof"]
    assert splits["test"]["age"][:] == [None, 3]
    assert splits["train"].features["label"].names == ["car", "dog"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.csv", "name,species\n0.png,owl\n", "a column file_name of texts, got 'metadata"),
        ("metadata.csv", "file_name\n", "a column file_name of texts"),
        ("metadata.csv", "", "readable metadata, got 'metadata.csv'"),
        ("metadata.csv", "file_name,image\n0.png,x\n", "without a column image"),
        ("metadata.csv", "file_name,a\n0.png,x\n0.png,y\n", "one row of metadata per image, got"),
        ("metadata.csv", "file_name,a\n0.png,x,y,z\n", "readable metadata, got 'metadata.csv'"),
        (
            "metadata.csv",
            "file_name;a\n0.png;x\n",
            "file_name;a; its separator must be a comma, not ';'",
        ),
        ("metadata.csv", "File Name\ta\n0.png\tx,y\n", "separator must be a comma, not '\\\\t'"),
        ("metadata.csv", "filename,a\ngone.png,x\n", "a column file_name of texts, got"),
        ("metadata.csv", "file_name,a, a\n0.png,x,y\n", "metadata of different columns"),
        ("metadata.csv", "file_name,a\n,\n,\n", "a column file_name of texts, got"),
        ("metadata.jsonl", "{not json", "readable metadata, got 'metadata.jsonl'"),
        ("metadata.jsonl", '{"file_name": 3}\n', "a column file_name of texts"),
        ("metadata.parquet", "PAR1", "readable metadata, got 'metadata.parquet'"),
    ],
)
def test_bad_metadata(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = make(tmp_path, ["0.png", "1.png"])
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_splits(path)
    assert len(str(caught.value).splitlines()) == 1


def test_two_metadata_files_in_a_folder(tmp_path: Path) -> None:
    path = make(tmp_path, ["0.png"])
    for ending in ("csv", "jsonl"):
        write_metadata(tmp_path / f"metadata.{ending}", METADATA)
    with pytest.raises(ValueError, match=r"got metadata\.csv and metadata\.jsonl"):
        load_splits(path)


def test_what_a_worker_is_sent_does_not_grow_with_the_images(tmp_path: Path) -> None:
    def sent(number: int) -> int:
        path = make(tmp_path / str(number), (f"c/{index}.png" for index in range(number)))
        return len(pickle.dumps(ImageTable(load_splits(path)["train"], None, 3)))

    assert sent(2000) < sent(20) + 100


def test_special_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ["0.png"])
    os.mkfifo(tmp_path / "pipe.png")
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.png"), "wb"):  # noqa: PTH118, PTH123
        pass
    splits = load_splits(str(tmp_path))  # a bare path, too
    assert files_of(splits["train"], tmp_path) == ["0.png"]
    assert "not used: 1 name not in UTF-8, 1 special file" in capsys.readouterr().err


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "photos", ["0.png", "1.png"])
    for path in ("~/photos", "imagefolder:~/photos"):
        assert len(load_splits(path)["train"]) == 2


def test_an_empty_label_of_metadata_is_none(tmp_path: Path) -> None:
    path = make(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,cat\n1.png,\n2.png,NA\n")
    assert load_splits(path)["train"]["label"][:] == ["cat", None, None]


def test_folders_that_link_to_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is read once for each folder directly under the root, not on each of 109,600 ways."""
    names = "abcdefgh"
    path = make(tmp_path, [f"{name}/{name}.png" for name in names])
    for name in names:
        for other in set(names) - {name}:
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    rows = load_splits(path)["train"]
    assert len(rows) == len(names) ** 2
    assert rows["label"][:] == [label for label in range(8) for _ in names]
    assert "links to a folder that is read already" in capsys.readouterr().err


def test_labels_of_metadata_go_before_folders_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, ["a/0.png", "b/1.png"])
    (tmp_path / "metadata.csv").write_text("file_name,label\na/0.png,cat\nb/1.png,dog\n")
    assert load_splits(path)["train"]["label"][:] == ["cat", "dog"]
    said = capsys.readouterr().err
    assert ": 2 images; labels: those of the metadata files, not the 2 folders" in said


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "20", ""], [1, 20, None]),
        (["-1.5", "2e3", "NA"], [-1.5, 2000.0, None]),
        (["007", "010", "1"], ["007", "010", "1"]),
        (["1", "2", "3a"], ["1", "2", "3a"]),
        (["2026-01-05", "2026-11-27", ""], ["2026-01-05", "2026-11-27", None]),
        (["2026-01-05 10:00:00Z", "", ""], ["2026-01-05 10:00:00Z", None, None]),
        (["10:30", "true", "False"], ["10:30", "true", "False"]),
        (["", "", ""], [None, None, None]),
    ],
)
def test_cells_of_a_csv_keep_their_text_but_for_numbers(
    tmp_path: Path, cells: list[str], expected: list[object]
) -> None:
    path = make(tmp_path, ["0.png", "1.png", "2.png"])
    lines = [f"{number}.png,{cell}\n" for number, cell in enumerate(cells)]
    (tmp_path / "metadata.csv").write_text("".join(["file_name,what\n", *lines]))
    assert load_splits(path)["train"]["what"][:] == expected


def test_a_class_that_is_a_link_to_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its images would have two labels."""
    path = make(tmp_path, ["train/car/0.png", "train/dog/0.png", "test/car/1.png"])
    (tmp_path / "train" / "auto").symlink_to(tmp_path / "train" / "car")
    rows = load_splits(path)["train"]
    assert files_of(rows, tmp_path) == ["train/car/0.png", "train/dog/0.png"]
    assert "not used: 1 link to a folder that is read already" in capsys.readouterr().err


def test_dates_of_jsonl_keep_their_text(tmp_path: Path) -> None:
    path = make(tmp_path, ["0.png", "1.png"])
    lines = [{"file_name": f"{n}.png", "n": n, "day": f"2026-01-0{n + 1}"} for n in range(2)]
    write_metadata(tmp_path / "metadata.jsonl", lines)
    rows = load_splits(path)["train"]
    assert rows["day"][:] == ["2026-01-01", "2026-01-02"]
    assert rows["n"][:] == [0, 1]


def test_pictures_of_a_run_are_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("config.yaml", "confusion.png", "checkpoints/step_1/a.png", "best/b.png")
    path = make(tmp_path, ["car/0.png", "dog/1.png", *(f"runs/1/{name}" for name in run)])
    (rows,) = load_splits(path).values()
    assert files_of(rows, tmp_path) == ["car/0.png", "dog/1.png"]
    said = "2 images, 2 classes; not used: 1 folder of a run, 1 folder without images"
    assert capsys.readouterr().err.strip() == f"{tmp_path}: {said}"
    (rows,) = load_splits(f"{path}/runs/1").values()  # if it is asked for
    assert len(rows) == 3


def said_of(folder: Path, capsys: pytest.CaptureFixture[str], metadata: str) -> str:
    """What is said of the images x/ä.png and x/b.JPG with metadata."""
    path = make(folder, ["x/\u00e4.png", "x/b.JPG"])
    (folder / "metadata.csv").write_text(metadata)
    load_splits(path)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("x\\b.JPG", "'x\\\\b.JPG', which is no image, while the image 'x/b.JPG'"),
        ("x/b.jpg", "'x/b.jpg', which is no image, while the image 'x/b.JPG'"),
        ("/far/x/b.JPG", "'/far/x/b.JPG', which is no image, while the image 'x/b.JPG'"),
        ("b", "'b', which is no image, while the image 'x/b.JPG'"),
        ("x/a\u0308.png", "'x/a\\u0308.png', which is no image, while the image 'x/\\xe4.png'"),
        ("gone.png", "'gone.png', which is no image, while the image 'x/"),
    ],
)
def test_names_that_are_spelled_in_another_way_are_shown(
    name: str, image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(tmp_path, capsys, f"file_name,a\n{name},1\n")
    assert f"metadata name {image}" in said
    assert "1 row of metadata without an image" in said


def test_a_few_rows_of_images_that_are_gone_are_only_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(tmp_path, capsys, "file_name,a\nx/b.JPG,1\ngone.png,1\n")
    assert "1 row of metadata without an image" in said
    assert "metadata name" not in said


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = make(tmp_path, ["0.png"])
    (tmp_path / "metadata.csv").write_bytes("file_name,a\n0.png,\u00e4\n".encode(encoding))
    with pytest.raises(ValueError, match="its encoding must be UTF-8"):
        load_splits(path)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (["10", "A4"], ["10", "10"], (["10", "A4"], ["10", "10"])),
        (["1", "0"], ["", ""], ([1, 0], [None, None])),
        (["01", "10"], ["10", "10"], (["01", "10"], ["10", "10"])),
        (["1", "0"], ["1.5", "2"], ([1.0, 0.0], [1.5, 2.0])),
    ],
)
def test_a_column_has_one_type_in_all_files(
    tmp_path: Path,
    train: list[str],
    test: list[str],
    expected: tuple[list[object], list[object]],
) -> None:
    path = make(tmp_path, ["train/0.png", "train/1.png", "test/0.png", "test/1.png"])
    for split, cells in (("train", train), ("test", test)):
        lines = [f"{row}.png,{cell}\n" for row, cell in enumerate(cells)]
        (tmp_path / split / "metadata.csv").write_text("".join(["file_name,label\n", *lines]))
    splits = load_splits(path)
    assert (splits["train"]["label"][:], splits["test"]["label"][:]) == expected


def test_files_of_types_that_do_not_go_together(tmp_path: Path) -> None:
    path = make(tmp_path, ["train/0.png", "test/0.png"])
    (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "0.png", "a": [1]}\n')
    (tmp_path / "test" / "metadata.csv").write_text("file_name,a\n0.png,x\n")
    with pytest.raises(ValueError, match="metadata files of the same columns, got"):
        load_splits(path)


def test_rows_without_a_name_and_files_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Spreadsheets end in rows of commas; photo services write a metadata.csv of each album."""
    path = make(tmp_path, ["0.png", "1.png", "album/2.png"])
    (tmp_path / "metadata.csv").write_text("file_name, label\r\n0.png,x\r\n1.png,y\r\n,\r\n,\r\n")
    (tmp_path / "album" / "metadata.csv").write_text("title,description\nAlbum,\n")
    rows = load_splits(path)["train"]
    assert rows["label"][:] == ["x", "y", None]
    said = capsys.readouterr().err
    assert "2 rows of metadata without a file_name" in said
    assert "1 metadata file without a column file_name" in said


def test_long_texts_of_several_lines(tmp_path: Path) -> None:
    path = make(tmp_path, [f"{row:02d}.png" for row in range(40)])
    texts = [f"{row} says\n" * 8000 for row in range(40)]
    lines = [f'{row:02d}.png,"{text}"\n' for row, text in enumerate(texts)]
    (tmp_path / "metadata.csv").write_text("".join(["file_name,text\n", *lines]))
    assert load_splits(path)["train"]["text"][:] == texts
    (tmp_path / "metadata.csv").unlink()
    long = [text * 20 for text in texts[:2]]  # each longer than Arrow's blocks
    write_metadata(
        tmp_path / "metadata.jsonl",
        [{"file_name": f"{row:02d}.png", "text": text} for row, text in enumerate(long)],
    )
    assert load_splits(path)["train"]["text"][:2] == long


def test_a_column_called_label_in_another_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, ["a/0.png", "b/1.png"])
    (tmp_path / "metadata.csv").write_text("file_name,Label\na/0.png,cat\nb/1.png,dog\n")
    rows = load_splits(path)["train"]
    assert rows["label"][:] == [0, 1]
    said = capsys.readouterr().err
    assert "not of the metadata's column 'Label': --data.label_column Label takes it" in said
