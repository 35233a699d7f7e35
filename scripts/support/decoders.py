"""The decoders that are compared, in time by `bench_*.py` and in loss by `study_decoders.py`."""

from __future__ import annotations

from typing import Any

DECODERS: dict[str, dict[str, Any]] = {
    "self": {},
    "self_half": {"decode_ratio": 0.5},
    "self_quarter": {"decode_ratio": 0.25},
    "cross": {"decoder": "cross"},
    "cross_half": {"decoder": "cross", "decode_ratio": 0.5},
    "cross_quarter": {"decoder": "cross", "decode_ratio": 0.25},
    "one_block": {"decoder_depth": 1},
}
"""Name -> fields of the model that differ from MAE's decoder, which is "self"."""
