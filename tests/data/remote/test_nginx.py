"""A real web server sees one request for each image of an epoch."""

import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("obstore")

from rexnet.config import load_config
from rexnet.config.remote_path import RemotePath
from rexnet.data.cache.cached_datasets import build_train_dataset
from rexnet.data.datamodule import ImageData
from rexnet.data.datasets import load_index
from rexnet.data.loaders import build_loader, build_train_sampler

NGINX = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
  log_format ranges '$request_method $status $body_bytes_sent $http_range';
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/served; access_log {folder}/requests ranges; }}
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture
def nginx(tmp_path: Path, image_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemotePath]:
    """The address of a tar of `image_root`; the file `requests` gets its requests."""
    assert NGINX is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served/images.tar", "w") as tar:
        tar.add(image_root, "images")
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(CONFIG.format(folder=tmp_path, port=port))
    server = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-g", "user root;"])
    for _ in range(100):
        if (tmp_path / "pid").exists():
            break
        time.sleep(0.05)
    yield RemotePath(f"http://127.0.0.1:{port}/images.tar")
    server.terminate()
    server.wait()


def test_nginx_is_asked_once_for_each_image_and_sends_their_bytes(
    nginx: RemotePath, small_run: list[str], tmp_path: Path, image_root: Path
) -> None:
    changes = [*small_run, f"data.root={nginx}", "data.num_workers=2", "data.last_batch=pad"]
    config = load_config("finetune/folder.yaml", changes)
    index, log = load_index(config.data, "train"), tmp_path / "requests"
    log.write_text("")
    dataset = build_train_dataset(index, config.data, config.augmentation, config.training_sizes, config.seed)
    loader = build_loader(dataset, build_train_sampler(config, index), ImageData(config).loader_settings)
    assert sum(len(batch.labels) for batch in loader) == 24
    lines = [line.split(maxsplit=3) for line in log.read_text().splitlines()]
    assert [(method, status) for method, status, *_ in lines] == [("GET", "206")] * 24
    assert len({span for *_, span in lines}) == 24
    sizes = [path.stat().st_size for path in (image_root / "train").rglob("*.png")]
    assert sum(int(sent) for _, _, sent, _ in lines) == sum(sizes)
