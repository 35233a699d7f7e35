"""What a run has written: its configuration and its metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = run / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} must hold the configuration of a run ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} must hold the configuration of a run, got {config!r}")
    return config


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; of lines for the same step and kind, the last."""
    file = run / "metrics.jsonl"
    lines: dict[tuple[int, bool], dict[str, Any]] = {}
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # cut by a kill, or empty
        lines[line["step"], "loss" not in line] = line  # a step and its scores
    return [lines[key] for key in sorted(lines)]


def top1_history(run: Path) -> list[float]:
    """The accuracies of a fine-tuning run's evaluations, in order."""
    return [float(line["top1"]) for line in read_metrics(run) if "top1" in line]
