"""A web server of a few files with byte ranges, whose answers wait as long as the first part of the path says.

    python benchmarks/range_server.py FOLDER LOG

Prints its port. `/20/NAME` answers after 20 ms, as over a network with this round trip and unlimited bandwidth. LOG
gets the name and range of each GET.
"""

import asyncio
import functools
import mmap
import re
import sys
from pathlib import Path

REQUEST = re.compile(rb"(\w+) /(\d+)/(\S+)")
RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Answers the requests of one connection."""

    def __init__(self, files: dict[str, memoryview], log: Path) -> None:
        self.files, self.received = files, b""
        self.log = log.open("a", buffering=1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.close()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            request, span = REQUEST.match(head), RANGE.search(head)
            name = "" if request is None else request[3].decode()
            if request is None or name not in self.files:
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            first, last = (int(span[1]), int(span[2])) if span else (0, len(self.files[name]) - 1)
            if request[1] == b"GET":
                self.log.write(f"{name} {first} {last}\n")
            answer = functools.partial(self.answer, name, first, last, request[1] == b"GET", span is not None)
            asyncio.get_running_loop().call_later(int(request[2]) / 1000, answer)

    def answer(self, name: str, first: int, last: int, with_body: bool, partial: bool) -> None:
        content = self.files[name]
        lines = ["HTTP/1.1 206 Partial Content" if partial else "HTTP/1.1 200 OK", 'ETag: "1"']
        lines += [f"Content-Length: {last - first + 1}", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"]
        lines += [f"Content-Range: bytes {first}-{last}/{len(content)}"] if partial else []
        self.transport.write("\r\n".join([*lines, "", ""]).encode())
        if with_body:
            self.transport.write(content[first : last + 1])


async def serve(folder: Path, log: Path) -> None:
    """Serves the files of a folder until the process is ended."""
    files = {}
    for path in folder.iterdir():
        with path.open("rb") as opened:
            files[path.name] = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(files, log), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
