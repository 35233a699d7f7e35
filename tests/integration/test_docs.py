"""Every code block of README.md and docs/ is run, or says in a comment above it why not.

Python is executed, page by page. Commands are run, but for those that would train: they go as far
as the training itself, which is left out, so that their options, recipes and checks are those of
the real command. Two of them are run whole, before all pages; what they leave is what the pages
speak of. The tables below say what is made small for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
from PIL import Image

import finetune.__main__
import mae_et.__main__
from mae_et.auto import facts, resolver
from mae_et.config.request import options_of
from tests.support.accelerate_state import reset_accelerate
from tests.support.blocks import PAGES, Block, blocks_of
from tests.support.paths import FASHION_MNIST, ROOT

ENCODER = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_args": {"embed_dim": 24, "depth": 4, "num_heads": 2},
    "image_size": 64,
}
"""In place of ViT-B: four narrow blocks."""

SMALL = {
    "model": ENCODER | {"decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2},
    "curriculum": {"name": "efficienttrain"},
    "optim": {"epochs": 4, "batch_size": 16, "warmup_epochs": 1},
    "data": {"num_workers": 0},
    "run": {"tracker": "none", "log_every": 1},
}
"""What stands for hours of pretraining."""

FOLDERS = {
    r"/data_256\b": "packed",
    r"/new/images\b": "data/test",
    r"(?<!\w)/(data|images|labelled|photos)\b": "data",
    r"parquet:/scans\b": "parquet:packed",
    r"--(out|run\.output_dir) runs/mine(_classifier)?": "--out runs/again",
    r"\bmy_models:network\b": "tests.support.own_model:Windowed",
    r"\{depth: 12\}": "{}",
}
"""Places that a reader would have -> those of the test."""

OPTIONS = {
    "mae_et plan": ["--model.encoder_args={depth: 1}", "--model.decoder_depth=1"],
    "mae_et embed": ["--data.num_workers=0"],
    "mae_et pack": ["--num_workers=0", "--measure=false"],
    "finetune predict": ["--num_workers=0"],
}
"""What is added to a command so that it takes no time and starts no processes."""

IN_PYTHON = FOLDERS | {
    r'optim=\{"weight_decay": 0\.1\}': "**small",
    r"\bhours=8, ": "",
    r"\bhours=1\b": "**small_tuning",
    r"\b100_000\b": "5",
    r'"vit_small_patch16_224"': '"vit_tiny_patch16_224", encoder_args={"depth": 1}',
    r"\(2, 5, 8, 11\)": "(0, 1, 2, 3)",
    r"\b768\b": "24",  # the width of the encoder
    r"width: int = 256": "width: int = 16",
    r"UperNetConfig\(": "UperNetConfig(hidden_size=16, auxiliary_channels=16, ",
    r"\b512, 384\b": "128, 96",
    r"\b224, 224\)": "64, 64)",
    r"torch\.randn\(8, 3, 64, 64\)": "torch.randn(8, 3, 224, 224)",
}

TUNING = {
    "optim": {"epochs": 1, "batch_size": 16, "warmup_epochs": 0, "base_lr": 0.01},
    "data": {"num_workers": 0},
    "run": {"tracker": "none"},
}

TRAINING = (
    "mae_et.auto.resolve",
    "mae_et.pretraining.pretrain",
    "mae_et.planning.plan.measured_plan",
    "mae_et.planning.search.search",
    "finetune.automatic.complete",
    "finetune.probe.probe",
    "finetune.sweep.sweep",
    "finetune.sweep.choose_by_folds",
    "finetune.train.finetune",
)
"""Where commands begin to train or to measure."""

MAINS = {"mae_et": mae_et.__main__.main, "finetune": finetune.__main__.main}
PROGRAMS = {"mae-et": "mae_et", "mae-et-finetune": "finetune"}


class _TrainsHere(BaseException):
    """What would train is reached, so the command line is good."""


@pytest.fixture(scope="module")
def _quick() -> Iterator[None]:
    """Settings are chosen from a few images and short measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolver, "FIRST_SECONDS", 0.01)
        patch.setattr(resolver, "LAST_SECONDS", 0.01)
        patch.setattr(resolver, "LAST_ROUNDS", 1)
        patch.setattr(facts, "MOST_IMAGES", 30)
        yield


@pytest.fixture(scope="module")
def place(_quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: images in data/, a run, and a classifier made of it."""
    folder = tmp_path_factory.mktemp("reader")
    for split, per_class in (("train", 4), ("test", 2)):
        table = pd.read_parquet(FASHION_MNIST / f"{split}.parquet")
        for label, rows in table.groupby("label"):
            (folder / "data" / split / f"class_{label}").mkdir(parents=True)
            for number, image in enumerate(rows["image"].head(per_class)):
                picture = Image.open(io.BytesIO(image["bytes"])).convert("RGB").resize((64, 64))
                picture.save(folder / "data" / split / f"class_{label}" / f"{number}.jpg")
    picture.save(folder / "image.jpg")
    pretrain = ["pretrain", "--config=et_vit_b_16", "--data.path=data", *options_of(SMALL)]
    tune = ["--config=small_data", "--checkpoint=runs/mine", "--data.path=data"]
    tune += options_of({"model": ENCODER} | TUNING)
    with contextlib.chdir(folder):
        assert mae_et.__main__.main([*pretrain, "--out=runs/mine"]) == 0
        reset_accelerate()
        assert finetune.__main__.main([*tune, "--out=runs/mine_classifier"]) == 0
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order, in one Python session."""
    monkeypatch.chdir(place)
    names: dict[str, Any] = {"small": SMALL, "small_tuning": TUNING}
    for block in blocks_of(page):
        try:
            if block.language == "bash":
                _check_shell(block)
            elif block.word != "not run":
                exec("import torch\n" + block.note, names)
                exec(compile(_small(block.code, IN_PYTHON), block.place, "exec"), names)
        except BaseException as error:
            error.add_note(f"in the block at {block.place}")
            raise


def test_reasons_are_given() -> None:
    """Blocks are found, and those that are not run say why."""
    kinds = {
        kind for page in PAGES for kind in re.findall(r"^ *```(\w.*)$", page.read_text(), re.M)
    }
    assert kinds == {"bash", "python", "text"}  # in another one, code would not be run
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert len(blocks) > 50
    reasons = [block.note for block in blocks if block.word == "not run"]
    assert all(reasons)
    assert len(reasons) < len(blocks) / 3


def test_links_of_the_readme_lead_somewhere() -> None:
    """Those of the site are checked when it is built."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", (ROOT / "README.md").read_text())
    assert len(links) > 15
    for file, anchor in links:
        assert (ROOT / file).is_file(), file
        titles = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.M) if anchor else []
        assert not anchor or anchor in {re.sub(r"\W+", "-", title.lower()) for title in titles}


def _check_shell(block: Block) -> None:
    """Run the commands of a block; of one that is not run, check those that train."""
    for command in dataclasses.replace(block, code=_small(block.code, FOLDERS)).commands:
        words = [_small(word, FOLDERS) for word in command]  # those before the options, too
        found = _ours(words)
        if found is None:
            assert block.word == "not run", f"{words} is neither run nor explained"
        elif block.word != "not run" or found[1][:1] == ["pretrain"] or found[0] == "finetune":
            _run(*found)


def _ours(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return our package and the arguments of a command line; None if it is not ours."""
    words = [word for word in words if word not in ("&", "&;")]
    for start, word in enumerate(words):
        if word in PROGRAMS:
            return PROGRAMS[word], words[start + 1 :]
        if word == "-m" and words[start + 1] in MAINS:
            return words[start + 1], words[start + 2 :]
    return None


def _run(program: str, arguments: Sequence[str]) -> None:
    """Run a command line, up to where it would train."""
    arguments, file = (arguments[:-2], arguments[-1]) if ">" in arguments else (arguments, None)
    arguments, out = [*arguments, *OPTIONS.get(f"{program} {arguments[0]}", [])], io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        for target in TRAINING:
            patch.setattr(target, _stop)
        # SystemExit: --print_config. Bad options end with a code, not an exception.
        with contextlib.suppress(_TrainsHere, SystemExit):
            assert MAINS[program](arguments) == 0
    reset_accelerate()
    if file is not None:
        Path(file).write_text(out.getvalue())


def _stop(*_: Any, **__: Any) -> NoReturn:
    raise _TrainsHere


def _small(text: str, table: dict[str, str]) -> str:
    for pattern, replacement in table.items():
        text = re.sub(pattern, replacement, text)
    return text
