"""Folders as people have them: what is read of each by pretraining, fine-tuning, predict and stats.

What is right comes from `os.walk` (which files there are) and from torchvision's `ImageFolder` (the
classes of a split).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from finetune.config import DataConfig as LabelledConfig
from finetune.data import load_labelled
from finetune.predict import load_tables
from mae_et import data
from mae_et.config import DataConfig
from mae_et.data.folders.layout import SPLIT_NAMES

IMAGE = re.compile(
    r"\.(png|jpe?g|bmp|gif|webp|tiff?|ppm|npy|jfif|ico|tga|jp2|avif)$", re.IGNORECASE
)

TABLE = (Path(__file__).parent / "layouts.txt").read_text().splitlines()[1:]


def expand(pattern: str) -> list[str]:
    """Names as bash expands them: "a/{x,y}/{0..2}.png"."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    names = map(str, range(int(span[1]), int(span[2]) + 1)) if span else found[1].split(",")
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [name for middle in names for name in expand(f"{before}{middle}{after}")]


def build(root: Path, layout: str) -> None:
    """Make the files and links of a layout; a store of two images lies beside its root."""
    root.mkdir()
    for name in ("cat/0.png", "cat/1.png"):
        write(root.parent / "store" / name)
    for part in layout.replace("<tab>", "\t").split(" + "):
        name, _, target = part.partition(" -> ")
        for file in expand(name) if name else []:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            if not target:
                write(root / file)
            elif target.startswith("store"):
                (root / file).symlink_to(root.parent / target)
            else:
                (root / file).symlink_to(root / target)


def write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if IMAGE.search(file.name):
        file.write_bytes(b"not decoded here")
    else:
        file.write_text("no image")


def images_of(root: Path) -> set[str]:
    """The images of a folder, as `os.walk` finds them; hidden ones are not looked for."""
    found = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if name[0] != "."
            and name not in ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "#recycle")
            and not here.resolve().is_relative_to((here / name).resolve())
        ]
        files = [here / name for name in names if name[0] != "." and IMAGE.search(name)]
        found |= {str(file) for file in files if file.exists()}
    return found


def files_of(images: Any) -> list[str]:
    return [images.name(row) for row in range(len(images))]


@pytest.mark.parametrize("line", TABLE)
def test_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    layout, expected = (part.strip() for part in line.split("|"))
    root = tmp_path / "root"
    build(root, layout)
    there, path = images_of(root), f"imagefolder:{root}"
    if expected.startswith("error: "):
        message = re.escape(expected.removeprefix("error: ").replace("{root}", str(root)))
        with pytest.raises(ValueError, match=message):
            data.load_splits(path)
        with pytest.raises(ValueError, match=message):
            data.open_images(DataConfig(path=path), 3, 0)
        return
    splits = data.load_splits(path)  # as in stats
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"{root}: ")
    assert expected in said
    by_split = {name: files_of(data.ImageTable(rows, None, 3)) for name, rows in splits.items()}
    read = [file for files in by_split.values() for file in files]
    assert len(read) == len(set(read))
    assert set(read) <= there
    outside = re.search(r"([\d,]+) images? outside the folders of splits", said)
    assert len(there) - len(read) == (int(outside[1]) if outside else 0)

    tables = load_tables(path, "auto", None, None, 3)
    assert sorted(file for table in tables for file in files_of(table)) == sorted(there)

    if len(by_split["train"]) > 1:
        train, held_out = data.open_images(DataConfig(path=path, eval_images=2), 3, 0)
        assert set(files_of(train)).isdisjoint(files_of(held_out))
        others = {file for name in by_split if name != "train" for file in by_split[name]}
        assert others.isdisjoint(files_of(train)) or "->" in layout
        assert set(files_of(train)) | set(files_of(held_out)) - others == set(by_split["train"])
    check_labels(path, root)


def check_labels(path: str, root: Path) -> None:
    """Fine-tuning has torchvision's classes, or says in one line why it can't have any."""
    reasons = (
        "must have a split to evaluate on",
        "must hold labels, got none",
        "must have at least 2 classes, got 1",
        "must have images of every class, got none of 'cat'",
        "must hold labels, got 'label' without any in",
    )
    try:
        labelled = load_labelled(LabelledConfig(path=path))
    except ValueError as error:
        if not any(reason in str(error) for reason in reasons):
            raise
        return
    folders = {SPLIT_NAMES.get(one.name.lower()): one for one in root.iterdir()}
    for split in (labelled.train, labelled.held_out):
        files = files_of(data.ImageTable(split.dataset, None, 3))
        names = [labelled.class_names[label] for label in split.labels]
        oracle = ImageFolder(folders[str(split.dataset.split)], allow_empty=True)
        theirs = {file: oracle.classes[label] for file, label in oracle.samples}
        assert dict(zip(files, names, strict=True)) == theirs
