import contextlib
import itertools
import os
import socket
import threading
import time
from typing import Any

import pytest

pytest.importorskip("obstore")

import obstore
from file_server import FileServer, serve_files  # noqa: F401 - a fixture
from obstore.store import MemoryStore

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.catalog import WHOLE
from rexnet.data.remote.fetcher import Fetcher
from rexnet.errors import DataError

ROOT = RemotePath("s3://bucket/data")
QUICK = FetchConfig(timeout=0.4, give_up_after=1.5)


def in_memory(**objects: bytes) -> tuple[Fetcher, dict[str, str]]:
    store = MemoryStore()
    for name, content in objects.items():
        obstore.put(store, name, content)
    tags: dict[str, Any] = {name: obstore.head(store, name)["e_tag"] for name in objects}
    return Fetcher(ROOT, QUICK, 4, store), tags


def test_whole_objects_and_ranges_are_fetched_in_any_order() -> None:
    fetcher, tags = in_memory(a=b"0123456789", b=b"abc")
    wanted = [("a", tags["a"], 2, 3), ("b", tags["b"], WHOLE, 3), ("a", "", 9, 1)] * 20
    assert [future.result() for future in itertools.starmap(fetcher.submit, wanted)] == [b"234", b"abc", b"9"] * 20


def test_nothing_is_requested_for_an_empty_image_in_a_tar() -> None:
    fetcher, _ = in_memory(a=b"0123")
    assert fetcher.submit("a", "", 2, 0).result() == b""


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        (("a", '"9"', 0, 2), r"s3://bucket/data/a: has changed since it was indexed"),
        (("a", "", 2, 50), r"s3://bucket/data/a: has changed .* \(2 of 50 bytes came\)"),
        (("a", "", WHOLE, 5), r"s3://bucket/data/a: has changed .* \(4 of 5 bytes came\)"),
        (("c", "", WHOLE, 5), r"s3://bucket/data/c: does not exist"),
    ],
)
def test_another_object_than_the_indexed_one_is_refused(extent: Any, message: str) -> None:
    fetcher, _ = in_memory(a=b"0123")
    with pytest.raises(DataError, match=message):
        fetcher.submit(*extent).result()


def test_cut_answers_and_overloaded_servers_give_the_right_bytes(served: FileServer) -> None:
    content = os.urandom(200_000)
    (served.root / "x.tar").write_bytes(content)
    served.fault = lambda number, path: {0: None, 1: -500, 2: 503}[number % 3]
    fetcher = Fetcher(served.url(), FetchConfig(give_up_after=20), 8)
    spans = [(start, 1_000) for start in range(0, 40_000, 1_000)]
    futures = [fetcher.submit("x.tar", "", *span) for span in spans]
    assert b"".join(future.result() for future in futures) == content[:40_000]
    assert len(served.requests) > 60


def test_a_server_without_an_answer_is_given_up(served: FileServer) -> None:
    (served.root / "x").write_bytes(b"0123")
    served.stall = 30
    started = time.monotonic()
    with pytest.raises(DataError, match=rf"{served.url('x')}: (\d+ attempts|did not come) .*give_up_after"):
        Fetcher(served.url(), QUICK, 1).submit("x", "", WHOLE, 4).result()
    assert time.monotonic() - started < 4


def test_a_stalled_answer_is_requested_again(served: FileServer) -> None:
    (served.root / "x").write_bytes(b"0123")

    def fault(number: int, path: str) -> None:
        served.stall = 5 if number == 1 else 0

    served.fault = fault
    assert Fetcher(served.url(), FetchConfig(timeout=0.5), 1).submit("x", "", WHOLE, 4).result() == b"0123"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, r"\d+ attempts within 1.5 s failed: .*503.*give_up_after"),
        (403, "access is denied; check the credentials"),
        (401, "access is denied; check the credentials"),
        (404, "does not exist"),
        (412, "has changed since it was indexed"),
    ],
)
def test_each_refusal_is_one_sentence(served: FileServer, status: int, message: str) -> None:
    (served.root / "x").write_bytes(b"0123")
    served.fault = lambda number, path: status
    with pytest.raises(DataError, match=message) as refused:
        Fetcher(served.url(), QUICK, 1).submit("x", '"1"', WHOLE, 4).result()
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{served.url('x')}: ")


def test_a_server_that_nobody_runs_is_named_with_the_attempts() -> None:
    root = RemotePath("http://127.0.0.1:9/data")
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/data/x: \d+ attempts within 1.5 s failed"):
        Fetcher(root, QUICK, 1).submit("x", "", WHOLE, 4).result()


def test_a_server_without_ranges_is_named(served: FileServer) -> None:
    (served.root / "x.tar").write_bytes(b"0123")
    served.ranges = False
    with pytest.raises(DataError, match=r"x.tar: the server does not support this request, such as byte ranges"):
        Fetcher(served.url(), QUICK, 1).submit("x.tar", "", 1, 2).result()


def test_a_body_that_never_ends_is_given_up() -> None:
    head = "HTTP/1.1 206 Partial Content\r\nETag: 1\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    head += "Content-Range: bytes 0-8/99\r\nContent-Length: 9\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def serve() -> None:
            with contextlib.suppress(OSError):  # the server is closed
                while True:
                    connections.append(server.accept()[0])
                    connections[-1].recv(4096)
                    connections[-1].sendall(head.encode())

        threading.Thread(target=serve, daemon=True).start()
        root, started = RemotePath(f"http://127.0.0.1:{server.getsockname()[1]}"), time.monotonic()
        with pytest.raises(DataError, match=r"/x: did not come within 1.5 s; .*give_up_after"):
            Fetcher(root, QUICK, 1).submit("x", "", 0, 9).result()
        assert time.monotonic() - started < 4
