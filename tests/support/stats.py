"""What the command `stats` prints."""

from __future__ import annotations


def printed(output: str) -> list[list[float]]:
    """The numbers of "--data.mean '[…]'" and "--data.std '[…]'"."""
    lines = [line for line in output.splitlines() if line.startswith("--data.")]
    assert [line.split()[0] for line in lines] == ["--data.mean", "--data.std"]
    return [[float(x) for x in line.split("'")[1].strip("[]").split(", ")] for line in lines]
