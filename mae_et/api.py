"""The commands as functions, for scripts and notebooks: `import mae_et; mae_et.pretrain("photos")`.

They take the settings of the command line by the same names, as sections (`optim={"epochs": 50}`)
or dotted (`**{"optim.epochs": 50}`). The images come first, so that `data` may be a section. Bad
input is a ValueError of one line.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Resume
from .config.request import arguments_of, check_options
from .errors import forget_said
from .runs import Run as RunFiles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from .embedding import Embedded
    from .packing import PackSummary
    from .planning.forecast import Plan

Data = str | Path
"""Images, as in `data.path`: a folder, a Parquet or tar file, the name of a data set of the Hub."""


def pretrain(
    data: Data | None = None,
    /,
    *,
    hours: float | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    resume: Resume = False,
    **settings: Any,
) -> Run:
    """Pretrain a masked autoencoder, as `mae-et pretrain` does.

    Args:
        data: The images. Without a recipe, all settings that are not given are chosen for them.
        hours: How long the run may take, from now on; None for a rule.
        recipe: The name of a recipe, or a YAML file.
        out: The folder of the run; None for one by the name of the data.
        resume: Whether to resume the run in that folder; "auto" to do so if it holds one.
        settings: Further settings by their names, as sections or dotted.

    Returns:
        The run.

    Raises:
        ValueError: A setting or the data is bad.
        RunStoppedError: The run cannot continue.
        RunInterruptedError: The run was asked to stop (by Ctrl-C, for example); `resume=True`
            continues it.
    """
    from .commands.pretrain import run

    arguments = arguments_of(
        data, hours=hours, recipe=recipe, out=out, resume=resume, settings=settings
    )
    return Run(run(arguments).folder)


def plan(
    data: Data | None = None,
    /,
    *,
    hours: float | None = None,
    recipe: str | Path | None = None,
    measure: bool = False,
    price_per_hour: float | None = None,
    **settings: Any,
) -> Plan | None:
    """Say what a run would cost, stage by stage, as `mae-et plan` does.

    Args:
        data: As in `pretrain`.
        hours: As in `pretrain`.
        recipe: As in `pretrain`.
        measure: Whether real steps are timed; they are anyway if settings are chosen.
        price_per_hour: The price of an hour of all processes together; None for no price.
        settings: As in `pretrain`.

    Returns:
        The plan; None in processes other than the main one if steps were measured.

    Raises:
        ValueError: A setting or the data is bad.
    """
    from .commands.plan import plan_of

    began = time.monotonic()
    arguments = arguments_of(data, hours=hours, recipe=recipe, settings=settings)
    arguments += ["--measure"] * measure
    if price_per_hour is not None:
        arguments.append(f"--price_per_hour={price_per_hour}")
    return plan_of(arguments, began)


def embed(
    checkpoint: str | Path | RunOfAnyKind, data: Data, out: str | Path, **options: Any
) -> Embedded | None:
    """Write the features of all images of a data set to a file, as `mae-et embed` does.

    Args:
        checkpoint: A run, an encoder, a classifier, weights, or a name, as for fine-tuning.
        data: The images.
        out: The .parquet, .npy or .csv file.
        options: pool ("avg", "token" or "map"), batch_size, num_workers, resume, …: the fields of
            `mae_et.config.EmbedConfig`.

    Returns:
        What was written; None in processes other than the main one.

    Raises:
        ValueError: An option, the checkpoint or the images are unusable, or the file exists.
        RunStoppedError: The file cannot be written.
    """
    from .config import EmbedConfig
    from .embedding import embed

    check_options(options, {field.name for field in fields(EmbedConfig)})
    forget_said()
    folder = checkpoint.folder if isinstance(checkpoint, RunOfAnyKind) else checkpoint
    return embed(folder, str(data), out, **options)


def pack(data: Data, out: str | Path, **options: Any) -> PackSummary:
    """Rewrite big images once, at the size that training needs, as `mae-et pack` does.

    Args:
        data: The images.
        out: The folder of the shards.
        options: short_side, quality, format, shard_mb, num_workers, measure, …; see
            `mae_et.packing.pack`.

    Returns:
        What was written, its sizes, and the speed of reading it.

    Raises:
        ValueError: An option, the data or the folder is bad, or no image can be decoded.
        RunStoppedError: The disk is full, or a worker was killed.
    """
    from .packing import pack

    check_options(options, inspect.signature(pack).parameters)
    forget_said()
    return pack(str(data), out, **options)


def _let_notebooks_show_figures() -> None:
    """Let a notebook show figures that pyplot has not made; elsewhere, nothing happens."""
    if "ipykernel" in sys.modules:
        from IPython import get_ipython
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(get_ipython(), {"png"})


class RunOfAnyKind:
    """What the runs of pretraining and fine-tuning share: their configuration and metrics.

    Args:
        folder: The folder of the run.

    Raises:
        ValueError: The folder holds no run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files = RunFiles(self.folder)
        if not self._files.exists:
            raise ValueError(f"folder must hold a run, got {self.folder}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, as plain data."""
        return self._files.read_config()

    @property
    def metrics(self) -> pd.DataFrame:
        """The lines of metrics.jsonl, one for each window of steps and for each evaluation."""
        import pandas as pd

        return pd.DataFrame(self._files.read_metrics())

    def report(self, out: str | Path | None = None) -> Path:
        """Write the run's page of HTML, as `mae-et report` does.

        Args:
            out: The page; None for report.html in the run's folder.

        Returns:
            The page.

        Raises:
            ValueError: The page can't be written there, or a package is missing.
        """
        from .commands.report import main

        page = self.folder / "report.html" if out is None else Path(out)
        main([str(self.folder), f"--out={page}"])
        return page


class Run(RunOfAnyKind):
    """A pretraining run: its encoder, metrics and pictures.

    Args:
        folder: The folder of the run.

    Raises:
        ValueError: The folder holds no run.
    """

    def encoder(self) -> nn.Module:
        """Return the encoder in evaluation mode: normalised images (N, C, H, W) to features (N, D).

        Raises:
            ValueError: The run is not finished, or its encoder is damaged.
        """
        from .weights import TimmFolder, find_weights

        folder = self._files.encoder
        if not folder.is_dir():
            raise ValueError(f"{self.folder} has no encoder yet; resume=True finishes the run")
        origin = find_weights(folder)
        assert isinstance(origin, TimmFolder)
        return origin.build()

    def reconstruct(
        self,
        data: Data | None = None,
        *,
        split: str | None = None,
        sizes: Sequence[int] | None = None,
        num_images: int = 6,
        channels: Sequence[int] | None = None,
        seed: int = 0,
    ) -> Figure:
        """Draw what the run's last checkpoint reconstructs, as `mae-et reconstruct` does.

        Args:
            data: The images; None for the run's own.
            split: Their split; None for the held-out images.
            sizes: Input sizes in pixels; None for those of the run.
            num_images: Rows of the picture.
            channels: One to show, or three as red, green and blue.
            seed: Chooses the images and the masks.

        Returns:
            A figure of matplotlib, which a notebook shows.

        Raises:
            ValueError: There is no checkpoint, or the images can't be read.
        """
        from .report.reconstruct import picture

        figure: Figure = picture(
            self.folder,
            path=None if data is None else str(data),
            split=split,
            sizes=None if sizes is None else list(sizes),
            num_images=num_images,
            channels=None if channels is None else list(channels),
            seed=seed,
        )
        _let_notebooks_show_figures()
        return figure
