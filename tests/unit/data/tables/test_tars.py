"""Tar files of others: their samples, columns and counts, and broken or hostile ones."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mae_et import data
from mae_et.config.data import DataConfig
from mae_et.data.labels import LabelledImages
from mae_et.data.tables import count_samples
from mae_et.data.tables.tar_members import Header, split_name
from tests.support.tables import (
    Hostile,
    npy_bytes,
    picture_bytes,
    replaced,
    shades,
    span,
    write_tar,
)


def mixed() -> dict[str, bytes]:
    endings = ["jpg", "jpeg", "png", "JPG", "webp", "tif", "bmp", "npy", "25.png"]
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}
    return {
        f"{row:02d}.{end}": npy_bytes(10 * row)
        if end == "npy"
        else picture_bytes(10 * row, kinds.get(end.lower(), "PNG"))
        for row, end in enumerate(endings)
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_samples_of_any_ending(streaming: bool, tmp_path: Path) -> None:
    """In one file, as the endings of two files, and compressed."""
    members = mixed()
    expected = [10 * row for row in range(len(members))]
    write_tar(tmp_path / "a" / "0.tar", members)
    write_tar(tmp_path / "b" / "0.tar", dict(list(members.items())[:3]))
    write_tar(tmp_path / "b" / "1.tar", dict(list(members.items())[3:]))
    write_tar(tmp_path / "c" / "0.tar.gz", members, "w:gz")
    for folder in "abc":
        path = f"webdataset:{tmp_path}/{folder}"
        if not streaming:
            assert shades(path) == pytest.approx(expected, abs=2)
            continue
        source = DataConfig(path=path, streaming=True, eval_images=1, num_images=9)
        train, held_out = data.open_images(source, 3, seed=0)
        assert isinstance(train, data.StreamedImages)
        cells = [cell for n in range(train.num_shards) for cell in train.read(span(n, train))]
        found = [held_out[0], *(data.open_image(cell.value, 3, cell.name) for cell in cells)]
        whole = (image.crop(data.Box(0, 0, 8, 8), (8, 8)) for image in found)
        assert sorted(int(part[0, 0, 0]) for part in whole) == pytest.approx(expected, abs=2)


def test_columns_of_other_members(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Text, numbers and classes are columns wherever they begin; what is not used is named."""
    members: dict[str, bytes] = {}
    for row in range(12):
        members[f"a/{row}.png"] = picture_bytes(row)
        members[f"a/{row}.cls"] = b"%d\n" % (row % 3)
        members[f"a/{row}.kind.cls2"] = (b"dog", b"cat")[row % 2]
        members[f"a/{row}.pkl"] = pickle.dumps(row)
        if row > 7:
            members[f"a/{row}.json"] = b'{"a": %d}' % row
            members[f"a/{row}.txt"] = "ü".encode()
    file = write_tar(tmp_path / "0.tar", members | {"README": b"-"})
    rows = data.load_splits(f"webdataset:{file}")["train"]
    assert rows["json"][:][7:9] == [None, '{"a": 8}']
    assert rows["txt"][11] == "ü"
    assert rows["__key__"][3] == "a/3"
    assert LabelledImages(rows, "cls").labels.tolist() == [0, 1, 2] * 4
    assert LabelledImages(rows, "kind.cls2").class_names == ["cat", "dog"]
    assert "12 .pkl" in caplog.text
    assert "1 files without an ending" in caplog.text


def test_fields_in_either_case_and_spaces_around_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members: dict[str, bytes] = {"._0.png": b"of a Mac", "__index__.json": b"{}"}
    for row, (ending, name) in enumerate(
        [("cls", b"cat"), ("CLS", b" cat\n"), ("Cls", b"dog\r\n")]
    ):
        members |= {f"{row}.{ending}": name, f"{row}.PNG": picture_bytes(row)}
    rows = data.load_splits(f"webdataset:{write_tar(tmp_path / '0.tar', members)}")["train"]
    assert LabelledImages(rows, "cls").class_names == ["cat", "dog"]
    assert LabelledImages(rows, "cls").labels.tolist() == [0, 0, 1]
    assert [name for name in rows.column_names if name[0] != "_"] == ["png", "cls"]
    assert "2 hidden files" in caplog.text


def test_several_images_of_a_sample_are_columns(tmp_path: Path) -> None:
    members = {f"{row}.{side}.png": picture_bytes(row) for row in range(3) for side in "lr"}
    path = f"webdataset:{write_tar(tmp_path / '0.tar', members)}"
    assert shades(path, "r.png") == [0, 1, 2]
    with pytest.raises(ValueError, match=r"l\.png, r\.png; all columns"):
        shades(path)


def test_arrays_beside_pictures_are_other_files(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for row in range(3):
        members |= {f"{row}.png": picture_bytes(row), f"{row}.npy": npy_bytes(50 + row)}
    path = f"webdataset:{write_tar(tmp_path / '0.tar', members)}"
    assert shades(path) == [0, 1, 2]
    assert shades(path, "npy") == [50, 51, 52]


def test_members_of_unknown_endings_are_images_where_there_are_no_others(tmp_path: Path) -> None:
    members = {f"{row}.slice": picture_bytes(row) for row in range(3)}
    assert shades(f"webdataset:{write_tar(tmp_path / '0.tar', members)}") == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.c/0001.left.png", ("a/b.c/0001", "left.png")),
        ("0001.jpg", ("0001", "jpg")),
        ("./0001.jpg", ("./0001", "jpg")),
        ("a.b/0001", None),
        (".hidden.jpg", None),
        ("0001.", None),
    ],
)
def test_a_key_ends_at_the_first_dot(name: str, expected: tuple[str, str] | None) -> None:
    from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

    assert split_name(name) == expected
    if expected is not None:
        assert base_plus_ext(name) == expected


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_those_of_the_standard_library(form: int, tmp_path: Path) -> None:
    """Also of names that are long or not ASCII, of folders, links and times with fractions."""
    file = tmp_path / "a.tar"
    names = ["a.png", "long/" * 30 + "b.png", "c" * 90 + ".png", "grün.png", "d.png"]
    with tarfile.open(file, "w", format=form) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in names:
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(name), 1.5
            tar.addfile(header, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = []
    for kind in (tarfile.TarInfo, Header):
        with tarfile.open(file, tarinfo=kind) as tar:
            found.append(
                [(m.name, m.size, m.type in tarfile.REGULAR_TYPES, m.offset_data) for m in tar]
            )
    assert found[0] == found[1]
    assert len(found[0]) == 7
    assert count_samples(str(file)) == 5


def test_nothing_outside_is_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of other folders, links and devices, empty members with the names of files."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for name in ("secret.png", "secret2.png"):
        (tmp_path / name).write_bytes(picture_bytes(99))
    before = sorted(tmp_path.rglob("*"))
    file = tmp_path / "run" / "0.tar"
    with tarfile.open(file, "w") as tar:
        for name, content in [
            ("../secret.png", b""),
            (f"{tmp_path}/secret.png", b""),
            ("../written.png", picture_bytes(1)),
            (f"{tmp_path}/secret2.png", picture_bytes(3)),
            ("x.png", picture_bytes(2)),
            ("y.pyd", pickle.dumps(Hostile())),
            ("z.pickle", pickle.dumps(Hostile())),
        ]:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
        ):
            header = tarfile.TarInfo(f"{kind.decode()}.png")
            header.type, header.linkname = kind, "../secret.png"
            tar.addfile(header)
    images = data.ImageTable(data.load_splits(f"webdataset:{file}")["train"], None, 3)
    found, reasons = [], []
    for row in range(len(images)):
        try:
            found.append(int(images[row].crop(data.Box(0, 0, 8, 8), (8, 8))[0, 0, 0]))
        except data.UnreadableImageError as error:
            reasons.append(error.reason)
    assert found == [1, 3, 2]
    assert reasons == ["no image"] * 4
    assert sorted(tmp_path.rglob("*")) == sorted([*before, file])


def test_a_file_without_its_end_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_tar(tmp_path / "0.tar", {f"{n}.png": picture_bytes(n) for n in range(4)})
    file.write_bytes(file.read_bytes()[: 4 * 1024])
    assert shades(f"webdataset:{file}") == [0, 1, 2, 3]
    assert "0.tar ends without the mark" in caplog.text


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.png", picture_bytes(1))


def appended(file: Path, name: str) -> None:
    with tarfile.open(file, "a") as tar:
        header = tarfile.TarInfo(name)
        tar.addfile(header, io.BytesIO())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda f: f.write_bytes(b""), "b.tar can't be read as a tar file: empty file"),
    "text": (lambda f: f.write_text("no tar " * 500), "b.tar can't be read as a tar file"),
    "a zip file": (zipped, "b.tar can't be read as a tar file"),
    "a pickle": (lambda f: f.write_bytes(pickle.dumps(Hostile())), "b.tar can't be read"),
    "cut off in a member": (lambda f: f.write_bytes(f.read_bytes()[:700]), "unexpected end"),
    "a header of noise": (
        lambda f: replaced(f, 1024, np.random.default_rng(0).bytes(512)),
        "b.tar is damaged at byte 1024",
    ),
    "a checksum that is wrong": (lambda f: replaced(f, 1024 + 150, b"7"), "damaged at byte 1024"),
    "a size beyond the end": (
        lambda f: write_tar(f, {"0.png": b"x"}) and resized(f, 0o777777),
        "unexpected end of data",
    ),
    "a huge size": (lambda f: resized(f, 1 << 32), "of 4096 MiB, which is no image"),
    "two tar files in one": (
        lambda f: f.write_bytes(f.read_bytes() * 2),
        "goes on after its end at byte",
    ),
    "a member twice": (lambda f: appended(f, "3.png"), "holds 3.png twice"),
    "a sample in two places": (lambda f: appended(f, "0.cls"), "sample 0 in several places"),
    "a cut compressed file": (
        lambda f: f.write_bytes(gzip.compress(f.read_bytes())[:-30]),
        "can't be read as a tar file",
    ),
    "noise after gzip's magic": (
        lambda f: f.write_bytes(b"\x1f\x8b\x08\0" + bytes(100)),
        "can't be read as a tar file",
    ),
    "dots in names": (
        lambda f: write_tar(f, {f"img.{n}.png": b"" for n in range(300)}),
        "ends at the first dot",
    ),
    "a class that is no number": (
        lambda f: write_tar(f, {"0.png": b"", "0.cls": b"dog"}),
        "whole number in 0.cls",
    ),
}


def resized(file: Path, size: int) -> None:
    """Claim another size of the first member."""
    header = tarfile.TarInfo("0.png")
    header.size = size
    replaced(file, 0, header.tobuf(tarfile.GNU_FORMAT)[:512])


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_file_among_good_ones_is_named(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        members = {f"{n}.png": picture_bytes(n) for n in range(4)}
        extra = {"9.cls": b"1"} if way == "a class that is no number" else {}
        write_tar(tmp_path / "t" / f"{name}.tar", members | extra)
    change, message = BROKEN[way]
    change(tmp_path / "t" / "b.tar")
    with pytest.raises(ValueError, match=message) as error:
        data.load_splits(f"webdataset:{tmp_path}/t")
    assert "t/b.tar" in str(error.value)
    assert "\n" not in str(error.value)
    assert "generating the dataset" not in str(error.value)
    assert not Path("executed").exists()


def test_folders_of_several_splits_in_a_tar_file(tmp_path: Path) -> None:
    """They would all be trained on."""
    names = [f"{split}/{c}/0.jpg" for split in ("./d/train2017", "./d/val2017") for c in "ab"]
    members = {name: picture_bytes(10, "JPEG") for name in names}
    for file, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        write_tar(tmp_path / file, members, mode)
        for streaming in (False, True):
            source = DataConfig(path=str(tmp_path / file), streaming=streaming, num_images=4)
            with pytest.raises(ValueError, match="holds the folders train2017, val2017, as of"):
                data.open_images(source, 3, seed=0)
    write_tar(tmp_path / "b.tar", dict(list(members.items())[:2]))
    assert shades(f"webdataset:{tmp_path}/b.tar") == pytest.approx([10, 10], abs=2)
