"""``python -m mae_et pretrain``: pretrain a masked autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import PretrainConfig
from ..config.parser import add_resume, config_parser, parse, resume_of
from ..workers import worker_context


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: The configuration, the data or an option is bad.
        RunStoppedError: The run cannot continue.
        RunInterruptedError: A signal asked the run to stop; the message says whether a checkpoint
            was saved.
    """
    parser = config_parser(PretrainConfig, "mae_et pretrain", "Pretrain a masked autoencoder.")
    add_resume(parser)
    config, options = parse(parser, PretrainConfig, arguments, "mae_et")
    resume = resume_of(options)
    if config.data.num_workers:
        worker_context()  # starts importing while this process does

    from ..pretrain import pretrain
    from ..training import leaving

    with leaving():
        pretrain(config, resume=resume)
