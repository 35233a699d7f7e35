"""Find the licence of the weights that a model started from, for the card of its export.

Nobody but its owner can say under which licence a model is given away, and that it was trained from
other people's weights binds the owner to their terms: a card tells both, and makes up neither.
Everything is read from this machine: from timm's list, from cards in the cache of the Hub (which
are fetched with the weights), and from the runs and folders that runs name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..config import parse_yaml, read_text
from ..runs import Run
from .by_name import CARD, Named

MOST_LINKS = 16
"""The most runs that are followed back, each of which started from the one before."""

MOST_BYTES = 2**22
"""The most bytes of a card."""

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,79}")
"""A licence as the Hub and SPDX name it, such as apache-2.0 or cc-by-nc-4.0."""


class Source(NamedTuple):
    """The weights of others that a model started from, or that it is."""

    name: str
    """The name or path by which they were given."""
    repository: str | None
    """OWNER/NAME on the Hub; None for a file or folder."""
    licence: str | None
    """None if it is not known on this machine."""


def find_source(checkpoint: str | Path | None) -> Source | None:
    """Find whose weights a run started from, over all the runs that were started from each other.

    Args:
        checkpoint: The checkpoint from which the last of them started.

    Returns:
        The weights; None if all began with new ones.
    """
    for _ in range(MOST_LINKS):
        if checkpoint is None or str(checkpoint) == "none":
            return None
        named = _named(checkpoint)
        if named is not None:
            return Source(named.name, named.repository, licence_of_named(named))
        run = _run(Path(checkpoint))
        if run is None:  # a file says nothing; a folder of others may have a card
            return Source(str(checkpoint), None, licence_of_folder(Path(checkpoint)))
        checkpoint = _checkpoint_of(run)
    return Source(str(checkpoint), None, None)


def licence_of_named(named: Named) -> str | None:
    """Return the licence of weights that have a name; None if it is not known here."""
    if named.tag is not None:
        stated = _identifier(named.tag["pretrained_cfg"].get("license"))
        if stated:
            return stated
    card = named.cached(CARD)
    return licence_of_card(card) if card else None


def licence_of_folder(folder: Path, config: dict[str, Any] | None = None) -> str | None:
    """Return the licence of a folder: that of its card, or of its config.json.

    Args:
        folder: The folder.
        config: The contents of its config.json, if it is one of timm. Those of our own runs say
            what timm says of other weights, if version 0.2 has written them.
    """
    described = (config or {}).get("pretrained_cfg") or {}
    is_ours = described.get("tag") == "mae_et"
    return licence_of_card(folder / CARD) or (
        None if is_ours else _identifier(described.get("license"))
    )


def licence_of_card(card: Path) -> str | None:
    """Return the licence that the head of a model card states; None if it states none."""
    try:
        head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", read_text(card, most=MOST_BYTES), re.S)
        stated = parse_yaml(head[1]) if head else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(stated, dict):
        return None
    licence = stated.get("license")
    if licence == "other":
        licence = stated.get("license_name") or licence
    return _identifier(licence[0] if isinstance(licence, list) and licence else licence)


def _identifier(licence: object) -> str | None:
    is_one = isinstance(licence, str) and IDENTIFIER.fullmatch(licence) is not None
    return str(licence) if is_one and licence != "unknown" else None


def _named(checkpoint: str | Path) -> Named | None:
    try:
        return Named.of(checkpoint)
    except ValueError:  # of a timm that lists other weights
        return None


def _run(path: Path) -> Run | None:
    try:
        return Run.of(path)
    except (OSError, ValueError):
        return None


def _checkpoint_of(run: Run) -> str | None:
    try:
        checkpoint = run.read_config().get("checkpoint")
    except ValueError:
        return None
    return None if checkpoint is None else str(checkpoint)
