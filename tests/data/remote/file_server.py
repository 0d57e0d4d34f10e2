"""A server of files on this machine, with byte ranges and ETags, that can be told to fail."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from rexnet.config.remote_path import RemotePath


class FileServer:
    """Serves the files below `root`.

    `fault` is asked before each answer with the number of the request and its path: it returns a status to answer
    instead, the bytes of the body after which to cut the connection (negative), or None.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[tuple[str, str, str]] = []  # method, path and range
        self.fault: Callable[[int, str], int | None] = lambda number, path: None
        self.stall = 0.0  # seconds before each answer to GET
        self.ranges = True
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name: str = "") -> RemotePath:
        return RemotePath(f"http://127.0.0.1:{self.server.server_port}/{name}")

    def gets(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    files: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_PROPFIND(self) -> None:
        self.send(405, b"", {})

    def answer(self, with_body: bool) -> None:
        files = self.files
        files.requests.append((self.command, self.path, self.headers.get("Range", "")))
        fault = files.fault(len(files.requests), self.path)
        if with_body:
            time.sleep(files.stall)
        if fault is not None and fault > 0:
            return self.send(fault, b"", {})
        path = files.root / unquote(self.path).lstrip("/")
        if not path.is_file():
            return self.send(404, b"", {})
        content, state = path.read_bytes(), path.stat()
        headers = {"ETag": f'"{state.st_mtime_ns:x}-{state.st_size:x}"'}
        if self.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            return self.send(412, b"", {})
        headers["Last-Modified"] = self.date_time_string(int(state.st_mtime))
        status, span = 200, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span and files.ranges:
            first, last = int(span[1]), min(int(span[2]), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            status, content = 206, content[first : last + 1]
        return self.send(status, content, headers, with_body, None if fault is None else -fault)

    def send(
        self, status: int, content: bytes, headers: dict[str, str], with_body: bool = True, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(name="served")
def serve_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of an empty folder; catalogs are kept in a folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    server = FileServer(tmp_path / "served")
    yield server
    server.server.shutdown()
    server.server.server_close()
