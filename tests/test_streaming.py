"""Data sets that are read as streams, and several data sets as one."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mae_et import data
from mae_et.__main__ import main
from mae_et.config.data import DataConfig, SourceConfig
from mae_et.config.training import EvalConfig
from mae_et.data.streaming.order import ShardPlan
from mae_et.data.streaming.shards import count_rows
from mae_et.errors import RunStoppedError
from mae_et.evaluation.features import load_probe_images

from .conftest import assert_same_weights, launch_two, tiny

ROWS = (37, 29, 37, 11, 30)
"""Images of each shard; 144 in all."""


def encoded(number: int) -> bytes:
    """An image whose pixels tell its number."""
    buffer = io.BytesIO()
    pixels = np.full((16, 16, 3), (number // 256, number % 256, 7), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same 144 images as WebDataset, as Parquet, and as tar files that can't be counted."""
    folder = tmp_path_factory.mktemp("shards")
    for kind in ("webdataset", "parquet", "compressed"):
        (folder / kind).mkdir()
    number = 0
    for shard, rows in enumerate(ROWS):
        images = {f"{n:04d}": encoded(n) for n in range(number, number + rows)}
        number += rows
        for name in (f"webdataset/{shard}.tar", f"compressed/{shard}.tar.gz"):
            with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
                for key, content in images.items():
                    for suffix, member in (("png", content), ("json", b"{}")):
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size = len(member)
                        tar.addfile(info, io.BytesIO(member))
        table = datasets.Dataset.from_dict(
            {"image": [{"bytes": b, "path": f"{key}.png"} for key, b in images.items()]},
            features=datasets.Features({"image": datasets.Image()}),
        )
        table.to_parquet(folder / "parquet" / f"{shard}.parquet", batch_size=10)
    return {
        "webdataset": f"webdataset:{folder}/webdataset",
        "parquet": f"parquet:{folder}/parquet",
        "compressed": f"webdataset:{folder}/compressed",
    }


class Numbered:
    """A transform that reads the number out of the pixels."""

    def __call__(self, image: data.EncodedImage, index: int, number: int) -> dict[str, Any]:
        red, green, _ = image.decode().getpixel((0, 0))
        return {"image": red * 256 + green, "number": number, "noise": torch.rand(())}


def open_stream(path: str, **options: Any) -> tuple[data.StreamedSamples, list[int]]:
    """A stream in batches of 12, and the numbers of the images that are held out."""
    batch_size = options.pop("batch_size", 12)
    source = DataConfig(path=path, streaming=True, eval_images=4, **options)
    train, held_out = data.open_images(source, 3, seed=1)
    assert isinstance(train, data.StreamedImages)
    samples = data.StreamedSamples(
        train, Numbered(), seed=1, clock=data.SampleClock(batch_size), shuffle_buffer=40
    )
    read = Numbered()
    return samples, [read(held_out[i], 0, 0)["image"] for i in range(len(held_out))]


def seen(
    samples: data.StreamedSamples, start: int, stop: int, *, workers: int, world: int, chunk: int
) -> dict[int, tuple[int, float]]:
    """Sample number -> (image, noise) of some steps, over all processes."""
    found: dict[int, tuple[int, float]] = {}
    for rank in range(world):
        batches = samples.batches(start, stop, chunk_size=chunk, rank=rank, world=world)
        loader: DataLoader[Any] = data.make_loader(samples, batches, workers, pin_memory=False)
        for batch in loader:
            rows = zip(
                *(batch[name].tolist() for name in ("number", "image", "noise")), strict=True
            )
            new = {number: (image, noise) for number, image, noise in rows}
            assert not new.keys() & found.keys()
            found |= new
    assert sorted(found) == list(range(12 * start, 12 * stop))
    return found


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_an_epoch_shows_every_image_once(shards: dict[str, str], kind: str) -> None:
    """140 images in batches of 12 of 2 processes with 2 workers each: three epochs."""
    samples, held_out = open_stream(shards[kind])
    assert len(samples) == 140
    assert len(set(held_out)) == 4
    found = seen(samples, 0, 35, workers=2, world=2, chunk=3)
    rest = set(range(144)) - set(held_out)
    epochs = [[found[n][0] for n in range(140 * e, 140 * (e + 1))] for e in range(3)]
    for epoch in epochs:
        assert Counter(epoch) == Counter(rest)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != sorted(epochs[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize(("workers", "world", "chunk"), [(0, 1, 12), (1, 1, 4), (4, 2, 2)])
def test_steps_depend_on_no_workers_processes_or_restarts(
    shards: dict[str, str], workers: int, world: int, chunk: int
) -> None:
    """Steps 7 to 15, also over the epoch's end, against those of an uninterrupted pass."""
    whole = seen(open_stream(shards["parquet"])[0], 0, 15, workers=0, world=1, chunk=6)
    part = seen(open_stream(shards["parquet"])[0], 7, 15, workers=workers, world=world, chunk=chunk)
    assert part == {number: whole[number] for number in part}


def test_the_kinds_hold_the_same_images(shards: dict[str, str]) -> None:
    first, second = (open_stream(shards[kind])[0] for kind in ("webdataset", "parquet"))
    found = [seen(stream, 0, 5, workers=0, world=1, chunk=12) for stream in (first, second)]
    assert found[0] == found[1]


def test_shards_that_cannot_be_counted(shards: dict[str, str]) -> None:
    """Each lane goes through its own shards, and remembers their lengths for a restart."""
    with pytest.raises(ValueError, match="num_images must be given"):
        open_stream(shards["compressed"])
    samples, held_out = open_stream(shards["compressed"], num_images=144)
    assert samples.plan.num_lanes == 4
    whole = seen(samples, 0, 40, workers=2, world=2, chunk=6)
    for lane in range(4):
        numbers = [n for n in sorted(whole) if n % 4 == lane]
        images = [whole[n][0] for n in numbers]
        lane_epoch = [
            image
            for span in samples.plan.spans(lane, 0, 0)
            for image in _numbers(span.shard, held_out)
        ]
        assert Counter(images[: len(lane_epoch)]) == Counter(lane_epoch)

    resumed, _ = open_stream(shards["compressed"], num_images=144)
    resumed.load_state_dict(json.loads(json.dumps(samples.state_dict())))
    assert seen(resumed, 31, 40, workers=0, world=1, chunk=12) == {
        number: whole[number] for number in range(12 * 31, 12 * 40)
    }


def _numbers(shard: int, held_out: list[int]) -> set[int]:
    first = sum(ROWS[:shard])
    return set(range(first, first + ROWS[shard])) - set(held_out)


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_a_counted_plan_is_exact(lanes: int) -> None:
    """Lanes of any number, rows that they do not divide, shards without rows."""
    lengths = [5, 0, 17, 3, 1]
    plan = ShardPlan([*lengths], [0, 2, 0, 1, 0], lanes, seed=3)
    expected = {
        (s, plan.left_out[s] + row) for s, rows in enumerate(lengths) for row in range(rows)
    }
    taken: dict[int, tuple[int, int]] = {}  # sample -> (shard, row)
    for lane in range(lanes):
        read = (
            (span.shard, row)
            for epoch in range(9)
            for span in plan.spans(lane, epoch, 0)
            for row in range(span.first, span.first + (span.number or 0))
        )
        taken |= {n * lanes + lane: row for n, row in enumerate(read)}
    for epoch in range(8):
        assert {taken[n] for n in range(26 * epoch, 26 * (epoch + 1))} == expected
    for lane in range(lanes):
        for number in range(0, 200 // lanes, 7):
            epoch, offset = plan.locate(lane, number)
            span = next(iter(plan.spans(lane, epoch, offset)))
            assert taken[number * lanes + lane] == (span.shard, span.first)


def test_counting_reads_no_images(shards: dict[str, str]) -> None:
    for kind, suffix in (("webdataset", "tar"), ("parquet", "parquet")):
        folder = shards[kind].partition(":")[2]
        assert count_rows([f"{folder}/{shard}.{suffix}" for shard in range(5)]) == list(ROWS)
    assert count_rows([shards["compressed"].partition(":")[2] + "/0.tar.gz"]) == [None]


def test_a_shard_that_has_shrunk_stops_the_run(shards: dict[str, str]) -> None:
    samples, _ = open_stream(shards["parquet"])
    samples.plan.lengths[0] = 50
    with pytest.raises(RunStoppedError, match=r"shard 0 .* fewer than were counted"):
        seen(samples, 0, 20, workers=0, world=1, chunk=12)


@pytest.mark.parametrize("chunk", [1, 12])
def test_unreadable_images_are_replaced(tmp_path: Path, chunk: int) -> None:
    cells = [{"bytes": b"no image" if n % 5 == 4 else encoded(n), "path": None} for n in range(60)]
    datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image()})
    ).to_parquet(tmp_path / "train.parquet")
    samples, _ = open_stream(f"parquet:{tmp_path}")
    batches = samples.batches(0, 14, chunk_size=chunk, rank=0, world=1)
    bad: set[tuple[str, str]] = set()
    for batch in data.make_loader(samples, batches, 0, pin_memory=False):
        assert len(batch["image"]) == chunk
        assert all(image % 5 < 4 for image in batch["image"].tolist())
        bad |= set(batch["unreadable"])
    assert bad == {(f"shard 0 row {row}", "no image") for row in range(4, 60, 5)}


def numbered_rows(shards: list[int]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        for row in range(20):
            pixels = np.full((16, 16), 20 * shard + row, np.uint8)
            yield {"picture": Image.fromarray(pixels)}


def own_stream() -> datasets.IterableDataset:
    """A stream of the user's, for a path of the kind python."""
    return datasets.IterableDataset.from_generator(
        numbered_rows,
        gen_kwargs={"shards": [0, 1, 2, 3]},
        features=datasets.Features({"picture": datasets.Image()}),
    )


def own_streams() -> dict[str, Any]:
    """With a map that can't be pickled and gives decoded images, and a split to evaluate on."""
    return {
        "train": own_stream().map(lambda row: row, features=own_stream().features),
        "test": own_stream().take(7),
    }


def empty() -> datasets.IterableDataset:
    return own_stream().take(0)


def transformed() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [None]}).with_transform(lambda rows: rows)


def failing() -> datasets.Dataset:
    raise KeyError("no such table")


def featureless() -> datasets.IterableDataset:
    return datasets.IterableDataset.from_generator(numbered_rows, gen_kwargs={"shards": [0]})


@pytest.mark.parametrize("function", ["own_stream", "own_streams"])
def test_a_stream_of_ones_own_trains(tmp_path: Path, function: str) -> None:
    path = f"python:tests.test_streaming:{function}"
    options = {"data.num_images": 80, "data.num_workers": 1, "data.image_column": "picture"}
    assert main(["pretrain", *tiny(path, tmp_path / "run", **options)]) == 0
    assert (tmp_path / "run" / "encoder").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["webdataset", "parquet", "compressed"])
def test_two_processes_resume_a_stream_in_the_middle_of_an_epoch(
    shards: dict[str, str], kind: str, tmp_path: Path
) -> None:
    """2 processes × 2 workers, stopped after step 11 of 20 by the number of epochs it is given."""
    options = {
        "data.streaming": True,
        "data.num_workers": 2,
        "data.num_images": 144 if kind == "compressed" else None,
        "data.mean": [0.5] * 3,
        "data.std": [0.5] * 3,
        "model.in_chans": 3,
        "run.checkpoint_every": 11,
        "run.keep_checkpoints": 5,
    }
    options = {name: value for name, value in options.items() if value is not None}
    arguments = tiny(shards[kind], tmp_path / "whole", **options)
    whole = launch_two(["mae_et", "pretrain", *arguments])
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "whole").rename(tmp_path / "half")
    steps = sorted((tmp_path / "half" / "checkpoints").iterdir())
    assert steps[0].name == "step_00000011"
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    steps[0].rename(again / "checkpoints" / steps[0].name)
    (tmp_path / "half" / "config.yaml").rename(again / "config.yaml")
    resumed = launch_two(
        ["mae_et", "pretrain", *tiny(shards[kind], again, **options), "--resume", "true"]
    )
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(tmp_path / "half", again)


def failing_rows(shards: list[int]) -> Iterator[dict[str, Any]]:
    for row in numbered_rows(shards):
        yield row
        if shards == [FAILING_SHARD] and row["picture"].getpixel((0, 0)) % 20 == 15:
            raise ConnectionError("the server has gone away")


FAILING_SHARD = 0
"""It is in the second of two lanes in the first epoch."""


def failing_stream() -> datasets.IterableDataset:
    return datasets.IterableDataset.from_generator(
        failing_rows,
        gen_kwargs={"shards": [0, 1]},
        features=datasets.Features({"picture": datasets.Image()}),
    )


@pytest.mark.slow
def test_what_only_the_second_process_finds_is_said(tmp_path: Path) -> None:
    path, options = "python:tests.test_streaming:failing_stream", {"data.num_images": 40}
    run = launch_two(["mae_et", "pretrain", *tiny(path, tmp_path / "run", **options)])
    assert run.returncode != 0
    said = f"error: shard {FAILING_SHARD} of data.path can't be read after row 16 (the server has"
    assert said in run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data.path": "imagefolder:tests", "data.streaming": True}, "data.streaming needs"),
        ({"data.path": "python:nowhere:f"}, "can't import module 'nowhere'"),
        ({"data.path": "python:tests.test_streaming:ROWS"}, "must be callable, got tuple"),
        ({"data.path": "python:tests.test_streaming:transformed"}, "no function of set_transform"),
        ({"data.path": "python:tests.test_streaming:failing"}, "raised KeyError: 'no such table'"),
        ({"data.path": "python:tests.test_streaming:featureless"}, "give the data set its feature"),
        (
            {"data.path": "python:tests.test_streaming:empty", "data.num_images": 9},
            "without any to",
        ),
        ({"data.path": "python:tests.test_streaming:own_stream"}, "data.num_images must be given"),
        (
            {"data.path": "null", "data.sources": "[{path: 'disk:/not/there'}]"},
            "data.sources.path must exist, got 'disk:/not/there'",
        ),
        (
            {"data.path": "null", "data.sources": "[{path: x}]", "data.image_column": "image"},
            "data.image_column must be null with data.sources",
        ),
        (
            {"data.path": "null", "data.sources": "[{path: x}]", "data.split": "all"},
            "data.split must be train with data.sources",
        ),
    ],
)
def test_bad_sources(
    options: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny("imagefolder:tests", tmp_path / "run", **options)
    assert main(["pretrain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_probes_make_no_copy_of_a_stream(shards: dict[str, str]) -> None:
    source = DataConfig(path=shards["parquet"], streaming=True)
    with pytest.raises(ValueError, match=r"eval\.path must be given with data\.streaming"):
        load_probe_images(EvalConfig(), source, size=(8, 8), in_chans=3, chunk_size=4, seed=0)


def test_a_weighted_mixture(clothes: str, image_folder: Path) -> None:
    """Three times as many samples of the one as of the other, and each image equally often."""
    parts = [
        SourceConfig(path=clothes, weight=3, image_column="image"),
        SourceConfig(path=f"imagefolder:{image_folder}", weight=1),
    ]
    source = DataConfig(sources=parts, eval_images=8)
    train, held_out = data.open_images(source, 1, seed=0)
    assert not isinstance(train, data.StreamedImages)
    assert (len(train), len(held_out)) == (80 + 78, 6 + 2)
    stream = data.Samples(train, Numbered(), seed=0)
    epochs = [[stream.image_index(158 * e + k) for k in range(158)] for e in range(40)]
    for epoch in epochs:
        assert sum(row < 80 for row in epoch) == 118  # three quarters of 158, rounded
    times = Counter(row for epoch in epochs for row in epoch)
    assert {times[row] for row in range(80)} == {59}
    assert {times[row] for row in range(80, 158)} <= {20, 21}
    names = {train.name(row) for row in range(158)}
    assert len(names) == 158


def test_a_weight_is_worth_a_sample_of_an_epoch(clothes: str) -> None:
    parts = [SourceConfig(path=clothes, weight=weight) for weight in (1, 0.001)]
    with pytest.raises(ValueError, match=r"data\.sources must be weights that give each at least"):
        data.open_images(DataConfig(sources=parts), 1, seed=0)


def test_a_mixture_without_weights_shows_every_image_once(clothes: str) -> None:
    parts = [
        SourceConfig(path=clothes),
        SourceConfig(path=clothes, split="test", eval_split="train"),
    ]
    train, _ = data.open_images(DataConfig(sources=parts), 1, seed=0)
    assert not isinstance(train, data.StreamedImages)
    stream = data.Samples(train, Numbered(), seed=0)
    rows = [stream.image_index(k) for k in range(110, 220)]
    assert sorted(rows) == list(range(110))
    assert rows != sorted(rows)


def test_a_mixture_trains(clothes: str, image_folder: Path, tmp_path: Path) -> None:
    first, second = f"{{path: '{clothes}', weight: 1}}", f"path: 'imagefolder:{image_folder}'"
    sources = f"[{first}, {{{second}, weight: 2}}]"
    arguments = tiny("null", tmp_path / "run", **{"data.sources": sources})
    assert main(["pretrain", *arguments]) == 0
    out = tmp_path / "pictures.png"
    draw = ["reconstruct", "--checkpoint", str(tmp_path / "run"), "--out", str(out)]
    assert main(draw) == 0
    assert main([*draw, "--data.split=test"]) == 2
    export = ["--format", "timm", "--out", str(tmp_path / "timm")]
    assert main(["export", "--checkpoint", str(tmp_path / "run"), *export]) == 0
    card = (tmp_path / "timm" / "README.md").read_text()
    assert f"Data: `{clothes}`, `imagefolder:{image_folder}`" in card
