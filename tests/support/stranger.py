"""What a stranger may leave in a run's folder: pickles that run code, addresses that listen."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def replace_by_pickle(file: Path, folder: Path, *, plain: bool = False) -> None:
    """Put a pickle that makes a folder in the place of a file, as torch writes it or plain."""
    contents = {"step": 0, "state": Runs(folder)}
    if plain:
        file.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, file)
    seal(file.parent)


def seal(checkpoint: Path) -> None:
    """Write the seal of a checkpoint anew, which anybody can."""
    file = checkpoint / "state.json"
    state = json.loads(file.read_text())
    state["sha256"] = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in checkpoint.iterdir()
        if path != file
    }
    file.write_text(json.dumps(state))


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A host of the stranger's: its address, and the requests that it gets."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _note(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD = _note  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
