"""The colours, markers and dashes that all pictures share."""

from __future__ import annotations

INK = "#000000"
"""The colour of a figure that becomes the colour of the page's text."""


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Okabe and Ito's colours, which colour-blind readers can distinguish, without the pale yellow."""


MARKERS, DASHES = "osD^vPX", ("-", "--", ":", "-.")


def style(index: int) -> tuple[str, str, str]:
    """Return a colour, marker and dashes; no two of 28 things share all three."""
    lap = index // len(PALETTE)
    return PALETTE[index % len(PALETTE)], MARKERS[(index + lap) % len(MARKERS)], DASHES[lap % 4]
