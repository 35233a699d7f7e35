"""The sample stream and what it is made from."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from finetune.config import FinetuneConfig
from mae_et import data
from mae_et.config.parser import config_parser, parse, recipe_names
from mae_et.config.pretrain import PretrainConfig
from mae_et.data import sources
from mae_et.data.labels import LabelledImages
from mae_et.workers import STOP_SIGNALS

from .conftest import ROOT


def table(images: list[Image.Image], in_chans: int = 3) -> data.ImageTable:
    return data.ImageTable(
        datasets.Dataset.from_dict(
            {"image": images}, features=datasets.Features({"image": datasets.Image()})
        ),
        None,
        in_chans,
    )


@pytest.fixture
def stream(clothes: str) -> data.Samples:
    train = data.load_splits(clothes)["train"]
    return data.Samples(
        data.ImageTable(train, None, 1), data.PretrainTransform((16, 16), 16), seed=3
    )


def test_each_epoch_shows_each_image_once_in_its_own_order(stream: data.Samples) -> None:
    epochs = [[stream.image_index(80 * epoch + k) for k in range(80)] for epoch in range(3)]
    assert all(sorted(order) == list(range(80)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def black() -> data.ImageTable:
    return table([Image.new("L", (8, 8))], in_chans=1)


def test_held_out_rows_of_memory_go_to_workers_alone() -> None:
    rows = table([Image.new("L", (8, 8), shade) for shade in range(20)], in_chans=1).rows
    _, held_out = data.train_and_eval_splits({"train": rows}, "train", None, 2, seed=0)
    assert held_out.data.num_rows == len(held_out) == 2


OWN_MODULE = """
from PIL import Image
from tests.test_data import black

Image.MIME["OWN"] = "image/own"  # as a plug-in for a format does

def images():
    return black().rows
"""


class Surroundings:
    """A transform that tells of the process it runs in."""

    def __call__(self, image: data.AnyImage, index: int, number: int) -> dict[str, Any]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return {
            "parent": os.getppid(),
            "blocked": blocked >= set(STOP_SIGNALS),
            "has_plugin": "OWN" in Image.MIME,
        }


def test_workers_are_no_copies_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from a server, see no signals to stop, and import the user's code again."""
    (tmp_path / "own_images.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "own_modules", set())
    rows = data.load_splits("python:own_images:images")["train"]
    stream = data.Samples(data.ImageTable(rows, None, 1), Surroundings(), seed=0)
    (chunk,) = data.make_loader(stream, [[0]], 1, pin_memory=False)
    assert chunk["parent"] != os.getpid()
    assert chunk["blocked"]
    assert chunk["has_plugin"]


KILLED = """
import os, psutil
from mae_et import data
from tests.test_data import Surroundings, black

if __name__ == "__main__":
    stream = data.Samples(black(), Surroundings(), seed=0)
    chunks = iter(data.make_loader(stream, [[0]] * 99, 2, pin_memory=False))
    next(chunks)
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    os.kill(os.getpid(), 9)
"""


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_workers_do_not_outlive_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    output = tmp_path / "pids"
    with output.open("w") as file:  # a pipe would be open for as long as a worker lives
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, script], stdout=file, env=environment, check=False)
    pids = [int(pid) for pid in output.read_text().split()]
    assert len(pids) == 4  # two workers, their server, and Python's resource tracker
    ends = time.monotonic() + 20
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_samples_do_not_depend_on_workers_or_processes(
    stream: data.Samples, workers: int, world: int
) -> None:
    """Steps 4 to 7 of 16 images, over an epoch's end, against the samples one by one."""
    expected = [stream[number] for number in range(4 * 16, 7 * 16)]
    images: dict[int, torch.Tensor] = {}
    noise: dict[int, torch.Tensor] = {}
    for rank in range(world):
        clock = data.SampleClock(16)
        batches = data.StepBatches(4, 7, clock=clock, chunk_size=4, rank=rank, world=world)
        loader = data.make_loader(stream, batches, workers, pin_memory=False)
        for numbers, chunk in zip(batches, loader, strict=True):
            images |= dict(zip(numbers, chunk["image"], strict=True))
            noise |= dict(zip(numbers, chunk["noise"], strict=True))
    assert sorted(images) == list(range(64, 112))
    for number, sample in zip(range(64, 112), expected, strict=True):
        assert torch.equal(images[number], sample["image"])
        assert torch.equal(noise[number], sample["noise"])


@pytest.mark.parametrize(("world", "chunk_size"), [(1, 4), (2, 4), (4, 2), (1, 12)])
def test_a_step_takes_its_samples_over_all_processes(world: int, chunk_size: int) -> None:
    batches = [
        data.StepBatches(
            5, 7, clock=data.SampleClock(24), chunk_size=chunk_size, rank=rank, world=world
        )
        for rank in range(world)
    ]
    assert all(len(list(b)) == len(b) == 2 * b.chunks_per_step for b in batches)
    first_step = [n for b in batches for chunk in list(b)[: b.chunks_per_step] for n in chunk]
    assert sorted(first_step) == list(range(5 * 24, 6 * 24))


def test_shards_cover_every_sample_once() -> None:
    shards = [
        n for rank in range(3) for batch in data.process_batches(32, 5, rank, 3) for n in batch
    ]
    assert sorted(shards) == list(range(32))


@pytest.mark.parametrize(("in_chans", "shape"), [(1, (1, 8, 8)), (3, (3, 8, 8)), (4, (4, 8, 8))])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
def test_images_of_any_mode(mode: str, in_chans: int, shape: tuple[int, ...]) -> None:
    image = Image.new("RGB", (12, 10), (255, 0, 0)).convert(mode)
    images = table([image], in_chans)
    sample = data.EvalTransform((8, 8), 4)(images[0], 0, 0)
    assert sample["image"].shape == shape
    assert sample["image"].dtype == torch.uint8
    if mode in ("P", "RGB", "RGBA", "CMYK") and in_chans == 3:
        assert sample["image"][:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=2)


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.new("L", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    images = data.ImageTable(
        datasets.Dataset.from_dict(
            {"image": [str(tmp_path / "turned.jpg")]},
            features=datasets.Features({"image": datasets.Image()}),
        ),
        None,
        1,
    )
    assert images[0].size == (20, 10)


def test_normalize() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = map(data.channel_statistics, ((0.5, 0.2, 0.0), (0.25, 0.1, 0.5)))
    normalized = data.normalize(images, mean, std)
    torch.testing.assert_close(normalized.flatten(), torch.tensor([-2.0, 0.0, 2.0]))


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


def damaged_folder(source: Path, target: Path, number: int) -> Path:
    files = sorted(source.rglob("*.png"))
    for index, file in enumerate(files):
        copy = target / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"no image at all" if index < number else file.read_bytes())
    return target


def test_unreadable_bytes_in_a_table_are_named_once() -> None:
    rows = {"image": [{"bytes": b"nothing", "path": None}]}
    features = datasets.Features({"image": datasets.Image()})
    images = data.ImageTable(datasets.Dataset.from_dict(rows, features=features), None, 3)
    messages = set()
    for _ in range(2):
        with pytest.raises(data.UnreadableImageError) as error:
            images[0]
        messages.add(str(error.value))
    assert len(messages) == 1


def test_every_recipe_fits_many_processes() -> None:
    for package, parse_type in (("mae_et", PretrainConfig), ("finetune", FinetuneConfig)):
        for name in set(recipe_names(package)) - {"demo"}:
            parser = config_parser(parse_type, "test", "")
            arguments = ["--config", name, "--data.path", "disk:x"]
            if package == "finetune":
                arguments += ["--checkpoint", "none"]
            config, _ = parse(parser, parse_type, arguments, package)
            for world in (1, 2, 8, 32):
                optim = config.optim
                size = data.split_batch(optim.batch_size, optim.micro_batch_size, world, 2)
                assert optim.batch_size // world % size == 0
                assert size <= (optim.micro_batch_size or size)
                assert size >= min(optim.batch_size // world, 16)
