"""Configurations as plain data: written, flattened, and compared when a run is resumed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, get_type_hints

BOOK_KEEPING = frozenset(
    {
        "run.output_dir",
        "run.log_every",
        "run.checkpoint_every",
        "run.keep_checkpoints",
        "run.tracker",
        "run.progress",
        "run.hours",
        "run.on_late",
    }
)
"""Fields that say where and when a run writes."""


FREE_ON_RESUME = BOOK_KEEPING | frozenset(
    {
        "eval",
        "data.allow_changed",
        "data.num_workers",
        "data.max_wait",
        "run.patience",
        "data.bad_images",
        "data.max_pixels",
        "data.max_bad_share",
        "optim.max_skipped_steps",
        "optim.micro_batch_size",
        "run.compile",
        "run.eval_every",
    }
)
"""Fields and sections that may differ between a run and its resumption.

None of them changes what is learned.

The size of micro-batches, like the number of processes, changes the order of summation and so the
last bits of the weights. (In fine-tuning it also changes the random draws of mixup, drop path and
erasing; with data.replay, it changes which images are used again.)
"""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into dotted fields: {"optim": {"epochs": 1}} -> {"optim.epochs": 1}."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = list(value) if isinstance(value, tuple) else value
    return fields


def changed_fields(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    kind: type,
    free: Collection[str] = FREE_ON_RESUME,
) -> list[str]:
    """Return 'field: old -> new' for each field that differs and may not.

    Args:
        old: A configuration that was written, possibly by an earlier version.
        new: The present configuration.
        kind: Its dataclass, whose defaults stand in for fields that the earlier version lacked.
        free: Fields and sections that may differ.
    """
    before, after = flatten(defaults(kind)) | flatten(old), flatten(new)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not {name, name.partition(".")[0]} & set(free)
    ]


def defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a dataclass and of the dataclasses in it, for fields that have one."""
    found: dict[str, Any] = {}
    types = get_type_hints(kind)
    for item in fields(kind):
        if is_dataclass(types[item.name]):
            found[item.name] = defaults(types[item.name])
        elif item.default is not MISSING:
            found[item.name] = item.default
        elif item.default_factory is not MISSING:
            found[item.name] = item.default_factory()
    return found


def to_dict(config: object) -> dict[str, Any]:
    """Return a configuration as nested dicts, lists and numbers, as YAML and JSON hold them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(asdict(config))  # type: ignore[call-overload]
    return result
