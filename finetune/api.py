"""Fine-tuning as a function, for scripts and notebooks: `import finetune; finetune.finetune(…)`.

It takes the settings of the command line by the same names, as sections (`optim={"epochs": 50}`) or
dotted (`**{"optim.epochs": 50}`). Bad input is a ValueError of one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mae_et.api import Data, RunOfAnyKind
from mae_et.config import Resume
from mae_et.config.request import arguments_of
from mae_et.errors import check
from mae_et.runs import probe_file

if TYPE_CHECKING:
    from torch import nn


def finetune(
    data: Data | None = None,
    /,
    *,
    checkpoint: str | Path | None = None,
    hours: float | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    resume: Resume = False,
    **settings: Any,
) -> ClassifierRun:
    """Fine-tune an encoder on labelled images, as `mae-et-finetune` does.

    Args:
        data: The labelled images. Without a recipe, what is not given is chosen: the network and
            its images as the checkpoint has them, the rest by the number of labels.
        checkpoint: The encoder: a run, a file, a folder or a name such as "timm:MODEL.TAG"; "none"
            trains from scratch, by a recipe.
        hours: The most hours of the run, from now on; None for as many as the recipe takes.
        recipe: The name of a recipe, or a YAML file.
        out: The folder of the run; None for one by the name of the data.
        resume: Whether to resume the run in that folder; "auto" to do so if it holds one.
        settings: Further settings by their names, as sections or dotted.

    Returns:
        The run.

    Raises:
        ValueError: A setting, the checkpoint or the data is bad.
        RunStoppedError: The run cannot continue.
        RunInterruptedError: The run was asked to stop (by Ctrl-C, for example); `resume=True`
            continues it.
    """
    from .__main__ import run

    mode = settings.get("mode", "finetune")
    check(mode == "finetune", "mode", mode, "finetune; finetune.probe_encoder probes an encoder")
    if checkpoint is not None:
        settings["checkpoint"] = str(checkpoint)
    arguments = arguments_of(
        data, hours=hours, recipe=recipe, out=out, resume=resume, settings=settings
    )
    return ClassifierRun(run(arguments))


def probe_encoder(
    data: Data | None = None,
    /,
    *,
    checkpoint: str | Path,
    kind: Literal["linear", "knn"] = "linear",
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure what a frozen encoder knows of labelled images, as `mae-et-finetune --mode` does.

    Args:
        data: The labelled images.
        checkpoint: The encoder, as in `finetune`.
        kind: "linear" trains a linear classifier of its features, "knn" asks the nearest
            neighbours among them.
        recipe: As in `finetune`.
        out: The folder of the scores and the features; None for one by the name of the data.
        settings: Further settings by their names, as sections or dotted.

    Returns:
        The scores, "top1" in [0, 1] first of all, and what they depend on.

    Raises:
        ValueError: A setting, the checkpoint or the data is bad.
        RunStoppedError: Too many images are unreadable.
    """
    from .__main__ import run

    settings |= {"checkpoint": str(checkpoint), "mode": kind}
    folder = run(arguments_of(data, recipe=recipe, out=out, settings=settings))
    scores: dict[str, Any] = json.loads(probe_file(folder, kind).read_text())
    return scores


class ClassifierRun(RunOfAnyKind):
    """A fine-tuning run: its classifier, classes, metrics and predictions.

    Args:
        folder: The folder of the run.

    Raises:
        ValueError: The folder holds no run.
    """

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by number."""
        return self._files.read_classes() or []

    def classifier(self) -> nn.Module:
        """Return the best classifier in evaluation mode: images (N, C, H, W) to logits.

        Images are normalised by `config["data"]["mean"]` and `["std"]`.

        Raises:
            ValueError: The run has none yet, it is damaged, or its network is not timm's.
        """
        from .model import load_classifier

        model, _, _ = load_classifier(self.folder)
        return model
