import hashlib
import socket
import threading
import time
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

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.describe(CONTENT)
        self.wfile.write(CONTENT[: self.server.cut])

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
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
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
    assert server.asked == ["GET /weights/tiny.safetensors"]
    assert rexnet(0.2, num_classes=3, pretrained=source).head.fc.weight.shape == (3, 256)


def test_a_cut_connection_is_an_error_and_the_next_attempt_starts_again(server: Server, tmp_path: Path) -> None:
    server.cut = len(CONTENT) // 3
    source = f"{server.address}/tiny.safetensors#sha256={CHECKSUM}"
    with pytest.raises(CheckpointError, match=r"cannot be fetched to .*invalid hash value"):
        fetch_weights(source, "rexnet")
    server.cut = None
    assert fetch_weights(source, "rexnet").read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"invalid hash value .*{'0' * 64}.*{CHECKSUM}"):
        fetch_weights(f"{server.address}/tiny.pth#sha256={'0' * 64}", "rexnet")
    assert [path.suffix for path in (tmp_path / "rexnet" / "weights").iterdir()] in ([".lock"], [])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            f"ADDRESS/missing.pth#sha256={'0' * 64}",
            "missing.pth: cannot be fetched to .*HTTP Error 404",
        ),
        ("ADDRESS/tiny.pth", "should be https://HOST/FILE#sha256=CHECKSUM with 64 hexadecimal digits"),
        ("ADDRESS/tiny.pth#sha256=12", "should be https://HOST/FILE#sha256=CHECKSUM"),
        (f"ftp://host/tiny.pth#sha256={'0' * 64}", "should be https://HOST/FILE#sha256=CHECKSUM"),
        (f"http://127.0.0.1:9/tiny.pth#sha256={'0' * 64}", "cannot be fetched .*refused.*; where there is no network"),
        (f"http://[bad/x.pth#sha256={'0' * 64}", "should be https://HOST/FILE#sha256=CHECKSUM"),
        ("no/such/file.pth", "no/such/file.pth: no such weight file"),
    ],
)
def test_an_address_that_gives_nothing_is_one_sentence(server: Server, source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch_weights(source.replace("ADDRESS", server.address), "rexnet")


def test_nothing_is_asked_of_the_network_when_offline_is_wished(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids a download"):
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
    with pytest.raises(CheckpointError, match=r"missing_in1k: neither .* nearest: nav_in1k: .*path"):
        fetch_weights("missing_in1k", "rexnet_100")


def test_a_hub_that_does_not_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its client would try for half a minute; `rexnet train IMAGES` then starts from scratch."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # refuses connections, because it does not listen
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        start = time.monotonic()
        with pytest.raises(
            CheckpointError, match=r"timm/rexnet_100\.nav_in1k: http://127\.0\.0\.1:\d+ cannot be reached; where"
        ):
            fetch_weights("nav_in1k", "rexnet_100")
        assert time.monotonic() - start < 10
