"""Which images of a run are opened without being asked for: files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_et.report.run_images import is_local, source_of
from mae_et.runs import Run


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *((f"{kind}:/data/x", True) for kind in ("imagefolder", "parquet", "webdataset", "disk")),
        *(("parquet:/data/*.parquet", True), ("photos", True), ("hub:a/b", False)),
        *(("a/b", False), ("photos:a", False), ("python:module:function", False)),
        *((f"parquet:{scheme}://host/x", False) for scheme in ("http", "https", "s3", "hf", "ftp")),
        *(("webdataset:pipe:://x", False), ("parquet:zip::/data/x.zip", False)),
        *(("imagefolder:", False), ("http://host/x", False), ("/not/there", False)),
        *(("a.parquet", True), ("b.TAR", True), ("gone.parquet", False), ("c.jpg", False)),
        *(("python:marker:images", False), ("hub:photos", False), ("/dev/null", False)),
    ],
)
def test_files_of_this_machine(
    path: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos", "python:marker:images", "hub:photos"):  # folders as the stranger wishes
        (tmp_path / name).mkdir()
    for name in ("a.parquet", "b.TAR", "c.jpg"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert is_local(path) == expected


def test_images_of_a_run_and_others(tmp_path: Path) -> None:
    run = Run(tmp_path)
    one = {"mean": [0.5], "std": [0.5]}
    run.write_config({"data": {"path": "disk:/x", "eval_images": 3, "unknown": 1, **one}})
    assert source_of(run, None, 6, 1).path == "disk:/x"
    given = source_of(run, "hub:a/b", 6, 1)
    assert (given.path, given.mean, given.eval_images) == ("hub:a/b", [0.5], 3)
    for paths in (["disk:/x", "hub:a/b"], ["python:a:b"]):
        sources = [{"path": path} for path in paths]
        run.write_config({"data": {"sources": sources, **one}})
        with pytest.raises(ValueError, match=f"the run's images are {paths[-1]}, which"):
            source_of(run, None, 6, 1)
    with pytest.raises(ValueError, match="has a damaged section data"):
        source_of(run, None, 6, 3)  # a mean per channel
    with pytest.raises(ValueError, match=r"data\.path must be given"):
        source_of(None, None, 6, 3)
