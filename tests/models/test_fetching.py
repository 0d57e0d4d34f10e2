import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import save

from rexnet import rexnet
from rexnet.errors import CheckpointError
from rexnet.models.fetching import fetch_weights

CONTENT = save(rexnet(0.2, num_classes=3).state_dict())
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `CONTENT` as any file, cutting each answer after `cut` bytes, and remembers what was asked."""

    cut: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range") if self.server.ranges else None
        self.server.asked.append(f"{self.path} {self.headers.get('Range')}")
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.describe(CONTENT[start:])
        self.wfile.write(CONTENT[start:][: self.server.cut])

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.describe(CONTENT)

    def describe(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{CHECKSUM}"')
        self.send_header("X-Repo-Commit", "0" * 40)  # what the client of the hub wants to know
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_kept_under_its_checksum(server: Server, tmp_path: Path) -> None:
    source = f"{server.address}/weights/tiny.safetensors#sha256={CHECKSUM}"
    path = fetch_weights(source, "rexnet")
    assert path == tmp_path / "rexnet" / "weights" / f"tiny-{CHECKSUM[:16]}.safetensors"
    assert path.read_bytes() == CONTENT
    assert fetch_weights(source, "rexnet") == path
    assert server.asked == ["/weights/tiny.safetensors None"]
    assert rexnet(0.2, num_classes=3, pretrained=source).head.fc.weight.shape == (3, 256)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_taken_up_where_it_stopped(server: Server, ranges: bool, tmp_path: Path) -> None:
    server.cut, server.ranges = len(CONTENT) // 3 + 1, ranges
    source = f"{server.address}/tiny.safetensors#sha256={CHECKSUM}"
    if ranges:
        assert fetch_weights(source, "rexnet").read_bytes() == CONTENT
        third = len(CONTENT) // 3 + 1
        assert [line.split()[1] for line in server.asked] == ["None", f"bytes={third}-", f"bytes={2 * third}-"]
        return
    with pytest.raises(CheckpointError, match=r"the connection was cut 5 times; .* bytes are kept"):
        fetch_weights(source, "rexnet")
    server.cut = None
    assert fetch_weights(source, "rexnet").read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"has the sha256 {CHECKSUM}, not the promised {'0' * 64}"):
        fetch_weights(f"{server.address}/tiny.pth#sha256={'0' * 64}", "rexnet")
    assert [path.suffix for path in (tmp_path / "rexnet" / "weights").iterdir()] in ([".lock"], [])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"ADDRESS/missing.pth#sha256={'0' * 64}", "missing.pth: the server answers 404 Not Found"),
        ("ADDRESS/tiny.pth", "should be https://HOST/FILE#sha256=CHECKSUM with 64 hexadecimal digits"),
        ("ADDRESS/tiny.pth#sha256=12", "should be https://HOST/FILE#sha256=CHECKSUM"),
        (f"ftp://host/tiny.pth#sha256={'0' * 64}", "should be https://HOST/FILE#sha256=CHECKSUM"),
        (f"http://127.0.0.1:9/tiny.pth#sha256={'0' * 64}", "cannot be reached: .*refused.*; where there is no network"),
        (f"http://[bad/x.pth#sha256={'0' * 64}", "is not an address"),
        ("no/such/file.pth", "no/such/file.pth: no such weight file"),
    ],
)
def test_an_address_that_gives_nothing_is_one_sentence(server: Server, source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch_weights(source.replace("ADDRESS", server.address), "rexnet")


def test_nothing_is_asked_of_the_network_when_offline_is_wished(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids to fetch it"):
        fetch_weights(f"{server.address}/tiny.pth#sha256={CHECKSUM}", "rexnet")
    assert server.asked == []


def test_a_tag_is_fetched_from_the_networks_repository_on_the_hub(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "asked.json"), raising=False)
    path = fetch_weights("nav_in1k", "rexnet_130")
    assert path.read_bytes() == CONTENT
    asked = [line for line in server.asked if "/api/" not in line]  # of which its client asks more once a day
    assert asked[0] == "HEAD /timm/rexnet_130.nav_in1k/resolve/main/model.safetensors"


@pytest.mark.parametrize("offline", [True, False])
def test_a_tag_that_cannot_be_fetched_is_said_in_words(
    server: Server, offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "asked.json"), raising=False)
    with pytest.raises(
        CheckpointError, match=r"missing: neither a file here nor .* as timm/rexnet_100\.missing: .*path"
    ):
        fetch_weights("missing", "rexnet_100")
