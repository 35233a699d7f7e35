"""Which files a path means, of which split, and whether they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mae_et.data.tables.files import expand_braces, find_files, signatures


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, location: str = "", kind: str = "parquet") -> dict[str, list[str]]:
    splits = find_files(kind, f"{folder}{location}")
    return {
        name: [os.path.relpath(file, folder) for file in files] for name, files in splits.items()
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{x}{0..1}", ["{x}0", "{x}1"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b.parquet", "a.parquet"], {"train": ["a.parquet", "b.parquet"]}),
        (["train.parquet", "test.parquet"], {"train": ["train.parquet"], "test": ["test.parquet"]}),
        (["Train.parquet", "TEST.PARQUET"], {"train": ["Train.parquet"], "test": ["TEST.PARQUET"]}),
        (
            ["train/0.parquet", "val/0.parquet"],
            {"train": ["train/0.parquet"], "validation": ["val/0.parquet"]},
        ),
        (["data/extra-00000-of-00001.parquet"], {"extra": ["data/extra-00000-of-00001.parquet"]}),
        (["a.parquet", "@eaDir/b.parquet", "lost+found/c.parquet"], {"train": ["a.parquet"]}),
        (["contest.parquet", "README.md", ".hidden.parquet"], {"train": ["contest.parquet"]}),
        (
            ["x/train-0.parquet", "x/eval-0.parquet"],
            {"train": ["x/train-0.parquet"], "test": ["x/eval-0.parquet"]},
        ),
        (
            ["trainset.parquet", "testset.parquet"],
            {"train": ["trainset.parquet"], "test": ["testset.parquet"]},
        ),
        (
            ["mydataTrain.parquet", "mydataTest.parquet"],
            {"train": ["mydataTrain.parquet"], "test": ["mydataTest.parquet"]},
        ),
        (
            ["trainA.parquet", "testA.parquet"],
            {"train": ["trainA.parquet"], "test": ["testA.parquet"]},
        ),
        (
            ["split=train/0.parquet", "split=test/0.parquet"],
            {"train": ["split=train/0.parquet"], "test": ["split=test/0.parquet"]},
        ),
        (
            ["fold_0/train.parquet", "fold_0/test.parquet", "fold_1/train.parquet"],
            {
                "train": ["fold_0/train.parquet", "fold_1/train.parquet"],
                "test": ["fold_0/test.parquet"],
            },
        ),
    ],
)
def test_splits_of_a_folder(
    names: list[str], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    assert found(touch(tmp_path, *names)) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a.parquet", "b.parquet", "crash-test.parquet"],
            "crash-test.parquet says test, while 2 others",
        ),
        (["train_test.parquet"], "says train and test"),
        (["trainval.parquet", "test.parquet"], "trainval.parquet .* says train and validation"),
        (
            [f"fold_{n}/{split}.parquet" for n in range(2) for split in ("train", "test")],
            "fold_0 and fold_1 in .* have splits of their own",
        ),
        (
            [
                f"{config}/{split}/0.parquet"
                for config in ("full", "mini")
                for split in ("train", "val")
            ],
            "full and mini in .* have splits of their own.* as in .*/mini",
        ),
        (
            ["train.parquet", "test.parquet", "old/train.parquet", "old/test.parquet"],
            "and old in .* have splits of their own",
        ),
        ([], "holds no files"),
    ],
)
def test_splits_that_are_not_clear(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        found(touch(tmp_path, *names))


def test_files_of_no_split_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = touch(tmp_path, "train.parquet", "test.parquet", "more.parquet")
    assert "more.parquet" not in str(found(folder))
    assert "not used: 1 files" in caplog.text
    assert "more.parquet" in caplog.text


def test_what_others_set_aside_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Leftovers of Spark; its marks, which are no tables, are not worth a line."""
    touch(tmp_path, "a.parquet", "_SUCCESS", "_b.parquet", "_temporary/0/a.parquet")
    assert found(tmp_path) == {"train": ["a.parquet"]}
    (line,) = caplog.messages
    assert "not used: 2 files or folders whose names begin with _, such as" in line
    assert "_SUCCESS" not in line


def test_tables_of_a_run_are_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = touch(tmp_path, "a.parquet", "run/predictions.parquet", "run/config.yaml")
    assert len(found(folder)["train"]) == 2  # it may be any folder
    touch(folder, "run/checkpoints/x")
    assert found(folder) == {"train": ["a.parquet"]}
    assert f"not used: {tmp_path}/run, the folder of a run" in caplog.text
    assert found(folder, "/run") == {"train": ["run/predictions.parquet"]}  # if it is asked for


def test_names_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets, colons and a tilde; links are followed, and a loop of them ends."""
    names = ["[2024] a/b.parquet", "a::b.parquet", "{1..2}.parquet"]
    folder = touch(tmp_path / "plain", *names)
    for name in names:
        assert found(folder, f"/{name}") == {"train": [name]}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("parquet", "~/plain/a::b.parquet") == find_files(
        "parquet", f"{folder}/a::b.parquet"
    )
    (folder / "linked").symlink_to(touch(tmp_path / "other", "c.parquet"))
    (folder / "linked" / "back").symlink_to(folder)
    assert len(found(folder)["train"]) == 4


def test_patterns(tmp_path: Path) -> None:
    folder = touch(tmp_path, *(f"s-{n:03d}.tar" for n in range(4)), "t/0.tar")
    assert found(folder, "/s-{001..002}.tar")["train"] == ["s-001.tar", "s-002.tar"]
    assert found(folder, "/s-*.tar")["train"] == [f"s-{n:03d}.tar" for n in range(4)]
    assert found(folder, "/**/*.tar")["train"][-1] == "t/0.tar"
    with pytest.raises(ValueError, match=r"no file is called .*s-004\.tar"):
        found(folder, "/s-{003..005}.tar")


def test_a_signature_tells_other_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    known = set()
    for content in (b"a" * 100_000, b"b" * 100_000, b"a" * 50_000, b""):
        file.write_bytes(content)
        os.utime(file, (1, 1))
        known.add(signatures([str(file)])[0])
    assert len(known) == 4
    assert signatures([str(file)])[0] in known
