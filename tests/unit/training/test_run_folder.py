"""Where a run may write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mae_et.training import check_apart


@pytest.mark.parametrize(
    "paths",
    [
        {"data": {"path": "imagefolder:{root}/photos"}},
        {"data": {"path": "{root}/photos/"}},
        {"data": {"path": "parquet:{root}/photos/*.parquet"}},
        {"data": {"path": "hub:me/cats"}, "eval": {"path": "webdataset:{root}/photos"}},
        {"data": {"path": None, "sources": [{"path": "hub:me/cats"}, {"path": "{root}/photos"}]}},
    ],
)
def test_a_run_writes_apart_from_its_data(
    paths: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [filled(part) for part in value]
        return value and value.format(root=tmp_path)

    config, photos = filled(paths), tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "link").symlink_to(photos)
    for folder in (photos, tmp_path / "link", photos / "x" / ".."):
        with pytest.raises(ValueError, match=r"^run.output_dir must not be the folder of the data"):
            check_apart(folder, config)
    check_apart(tmp_path, config)
    check_apart(tmp_path / "photos_run", config)
    assert not caplog.messages
    check_apart(photos / "runs" / "1", config)
    check_apart(photos, config, is_resumed=True)
    assert [f"run.output_dir {photos}" in message for message in caplog.messages] == [True, True]
