"""What the launcher's environment decides about a run, and what it does not.

Accelerate takes much of its configuration from variables, which its launcher sets and anybody may
leave behind in a shell. docs/reference/launcher.md lists all of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import torch

from ..errors import check, first_line

log = logging.getLogger(__name__)

REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
    "ACCELERATE_USE_TP": "tensor parallelism",  # these two of earlier versions of accelerate
    "ACCELERATE_USE_IPEX": "IPEX",
    "ACCELERATE_DOWNCAST_BF16": "TPUs",
}
"""Variables with which the launcher asks for another engine than the loop's own."""

OVERRIDDEN = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "optim.micro_batch_size"),
    "ACCELERATE_GRADIENT_CLIPPING": ("none", "optim.clip_grad"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "run.compile"),
}
"""What the loop does by itself: the value with which accelerate leaves it alone, and our field."""

PRECISIONS = ("no", "fp16", "bf16")

YES, NO = ("1", "true", "yes", "y", "t", "on"), ("0", "false", "no", "n", "f", "off")

SWITCHES = (
    "ACCELERATE_USE_CPU",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_CPU_AFFINITY",
    "ACCELERATE_DEBUG_MODE",
    "ACCELERATE_ENABLE_RICH",
    "FSDP_RESHARD_AFTER_FORWARD",
)
"""Variables that are yes or no; accelerate's error about another value does not name them."""


def check_environment(mixed_precision: str | None) -> None:
    """Check that the environment asks for nothing that a run cannot do.

    Args:
        mixed_precision: The run's own precision; None to take the environment's.

    Raises:
        ValueError: It does.
    """
    for name, engine in REFUSED.items():
        if os.environ.get(name, "").lower() in YES:
            raise ValueError(
                f"the launch configuration must not ask for {engine} ({name}); to share out a "
                "model that does not fit one device, pretrain with FSDP 2"
            )
    for name in SWITCHES:
        value = os.environ.get(name, "no")
        check(value.lower() in (*YES, *NO), name, value, "yes or no in the environment")
    device = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if device is not None:
        try:
            torch.empty(0, device=device)
        except Exception as error:  # libraries of devices raise what they like
            raise ValueError(
                "ACCELERATE_TORCH_DEVICE must be a device of this machine, such as cpu, in the "
                f"environment, got {device!r} ({first_line(error)})"
            ) from error
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed_precision is None and precision.lower() not in PRECISIONS:
        raise ValueError(
            f"the launch configuration's mixed precision must be {', '.join(PRECISIONS)}, "
            f"got {precision!r} (ACCELERATE_MIXED_PRECISION); --run.mixed_precision overrides it"
        )


def own_settings() -> Mapping[str, str]:
    """Return the variables with which accelerate leaves the loop alone."""
    return {name: neutral for name, (neutral, _) in OVERRIDDEN.items()}


def warn_of_overridden() -> None:
    """Say which variables ask for something else, and which field of ours to use instead."""
    for name, (neutral, field) in OVERRIDDEN.items():
        value = os.environ.get(name, neutral)
        if value.lower() not in (neutral, "auto", ""):
            log.warning("%s=%s has no effect here; use --%s", name, value, field)
