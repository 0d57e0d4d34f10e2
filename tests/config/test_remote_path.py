import pickle
from pathlib import Path

import pytest

from rexnet.config import load_config
from rexnet.config.load import dump_config
from rexnet.config.remote_path import RemotePath, parse_url


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "gs://bucket", "az://box/x", "https://host:81/a", "file:///a/b"])
def test_a_url_stays_a_url(url: str, tmp_path: Path) -> None:
    root = parse_url(url)
    assert isinstance(root, RemotePath)
    assert str(root) == f"{root}" == str(pickle.loads(pickle.dumps(root))) == str(parse_url(root)) == url
    assert str(root / "c.tar") == f"{url}/c.tar"
    config = load_config("finetune/folder.yaml", [f"data.root={url}"])
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml").data.root == root


@pytest.mark.parametrize("path", ["/a/b", "a", "s3", "c:/x"])
def test_other_roots_are_local(path: str) -> None:
    assert parse_url(path) == path
    root = load_config("finetune/folder.yaml", {"data.root": path}).data.root
    assert root == Path(path)
    assert not isinstance(root, RemotePath)
