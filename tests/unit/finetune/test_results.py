"""What a run writes of its classifier."""

from __future__ import annotations

from pathlib import Path

import torch

from finetune.results import write_results


def test_class_names_that_look_like_mathematics(tmp_path: Path) -> None:
    names = ["$\\frac$", "b$a_^{", "a name " * 500, "Äpfel, 'grün'\n", "<b>"]
    logits = torch.eye(5).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    report = write_results(tmp_path, [str(row) for row in range(10)], logits, labels, names)
    assert list(report["classes"]) == names
    assert (tmp_path / "confusion.png").exists()
