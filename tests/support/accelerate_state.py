"""What accelerate keeps in this process from one `Accelerator` to the next."""

from __future__ import annotations

from accelerate.state import AcceleratorState, GradientState, PartialState


def reset_accelerate() -> None:
    """Accelerate keeps its device and precision in classes; what follows chooses anew."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()
