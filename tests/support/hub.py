"""A cache of the Hub made by hand, and a Hub of this machine that counts what it hands out."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(
    cache: Path, repository: str, files: Mapping[str, bytes], revision: str = "main"
) -> Path:
    """Put a repository into a cache as huggingface_hub lays it out, and return its snapshot."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    ref, snapshot = folder / "refs" / revision, folder / "snapshots" / COMMIT
    for made in (ref.parent, snapshot, folder / "blobs"):
        made.mkdir(parents=True, exist_ok=True)
    ref.write_text(COMMIT)
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).unlink(missing_ok=True)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot


def folder_files(folder: Path, *names: str) -> dict[str, bytes]:
    """Return the named files of a folder, or all."""
    found = [folder / name for name in names] if names else sorted(folder.iterdir())
    return {file.name: file.read_bytes() for file in found}


class Hub:
    """What a Hub holds, and what was asked of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Mapping[str, bytes]] = {}
        self.gated: set[str] = set()
        self.downloads: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.address = ""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a Hub on this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(body)), **headers}
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            owner, name, kind, revision, *rest = [*self.path.strip("/").split("/"), *[""] * 4][:9]
            repository, file = f"{owner}/{name}", "/".join(part for part in rest if part)
            hub.asked[file] += 1
            files = hub.repositories.get(repository)
            if kind != "resolve":
                return self.answer(404)
            if files is None:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if repository in hub.gated:
                return self.answer(403, X_Error_Code="GatedRepo")
            if revision not in ("main", COMMIT):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            if file not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            if self.command == "GET":
                hub.downloads[file] += 1
            tag = f'"{hashlib.sha256(files[file]).hexdigest()}"'
            return self.answer(200, files[file], ETag=tag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
