"""The notebook of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT

SHORTER = {
    "epochs = 1.5 ": "epochs = 0.1 ",
    "classifier_epochs = 20": "classifier_epochs = 3",
    "labels_per_class = 20": "labels_per_class = 4",
}
"""What is replaced in the cell of settings, so that the test takes seconds."""


def test_it_is_kept_without_what_it_prints() -> None:
    import nbformat

    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    longest = max(len(line) for cell in cells for line in cell.source.splitlines())
    assert longest <= 100


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, with fewer steps, as a reader runs it: in the folder of the notebook."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for long, short in SHORTER.items():
        assert settings.source.count(long) == 1
        settings.source = settings.source.replace(long, short)
    folder = {"metadata": {"path": str(ROOT / "docs")}}
    NotebookClient(notebook, timeout=300, resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 8
    said = "".join(output.get("text", "") for output in outputs)
    assert "Warning" not in said
    for written in ("pretrained/encoder", "tuned/best", "scratch/best", "features.parquet"):
        assert list(tmp_path.glob(f"*/{written}"))
