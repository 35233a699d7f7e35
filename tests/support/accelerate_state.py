"""What accelerate keeps in a process from one `Accelerator` to the next."""

from __future__ import annotations

import os

from accelerate.state import AcceleratorState, GradientState, PartialState


def launch_variables() -> dict[str, str]:
    """The environment variables by which accelerate's launcher speaks to a run."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("ACCELERATE_", "FSDP_"))
    }


AT_START = launch_variables()
"""Those that the tests were started with."""


def reset_accelerate() -> None:
    """Forget device and precision, which accelerate keeps in classes: what follows chooses anew."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()


def reset_launch_variables() -> None:
    """Take away what accelerate itself has set since the start, as its plug-in for FSDP does."""
    for name in launch_variables().keys() - AT_START.keys():
        del os.environ[name]
    os.environ.update(AT_START)
