"""The images of an object store are those of the local disk, in the same order, whatever happens on the way."""

import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")

from file_server import FileServer, serve_files  # noqa: F401 - a fixture

from rexnet.config import Config, load_config
from rexnet.config.data_schema import SourceConfig
from rexnet.data.cache.cached_datasets import build_train_dataset
from rexnet.data.datamodule import ImageData
from rexnet.data.datasets import load_index
from rexnet.data.loaders import build_loader, build_train_sampler
from rexnet.data.sources.source import Source
from rexnet.data.workers import kill_workers
from rexnet.errors import ConfigError, DataError


@pytest.fixture
def served_tar(served: FileServer, image_root: Path) -> FileServer:
    with tarfile.open(served.root / "images.tar", "w") as tar:
        tar.add(image_root, "images")
    return served


def source_of(root: Any, split: Any = "train") -> Source:
    return load_index(SourceConfig(dataset="folder", root=root), split).source


def batches_of(config: Config, first: int = 0, epochs: Sequence[int] = (0, 1)) -> Iterator[bytes]:
    """The training batches as bytes, beginning at a batch of the first epoch."""
    index = load_index(config.data, "train")
    dataset = build_train_dataset(index, config.data, config.augmentation, config.training_sizes, config.seed)
    sampler = build_train_sampler(config, index)
    sampler.start_at(epochs[0], first)
    loader = build_loader(dataset, sampler, ImageData(config).loader_settings)
    for epoch in epochs:
        sampler.set_epoch(epoch)
        for images, labels, seed in loader:
            yield images.numpy().tobytes() + labels.numpy().tobytes() + seed.to_bytes(8, "little")


def digest(batches: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(batches)).hexdigest()


def configure(small_run: list[str], root: object, *more: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, f"data.root={root}", *more])


def test_two_loader_processes_give_the_bytes_of_the_local_disk_despite_cuts_and_a_kill(
    served_tar: FileServer, small_run: list[str]
) -> None:
    local = digest(batches_of(configure(small_run, served_tar.root / "images.tar")))
    config = configure(small_run, served_tar.url("images.tar"), "data.num_workers=2")
    served_tar.fault = lambda number, path: -300 if number % 3 == 0 else None
    whole = list(batches_of(config))
    assert digest(iter(whole)) == local
    killed = batches_of(config)
    begun = [next(killed) for _ in range(2)]
    kill_workers()
    assert digest(iter([*begun, *batches_of(config, first=2)])) == local


def test_an_epoch_requests_each_image_once(served_tar: FileServer, small_run: list[str]) -> None:
    config = configure(small_run, served_tar.url("images.tar"), "data.num_workers=2", "data.last_batch=pad")
    index = load_index(config.data, "train")
    del served_tar.requests[:]
    assert len(list(batches_of(config, epochs=[0]))) == 3
    ranges = [span for _, _, span in served_tar.requests]
    assert len(ranges) == len(set(ranges)) == len(index) == 24


def test_a_source_travels_to_other_processes_and_names_its_images(served_tar: FileServer, image_root: Path) -> None:
    remote, local = source_of(served_tar.url("images.tar")), source_of(image_root)
    assert list(remote.paths) == [f"images/train/{path}" for path in local.paths]
    assert remote.name(0) == f"{served_tar.url('images.tar')}/images/train/ant/000.png"
    other = pickle.loads(pickle.dumps(remote))
    assert other.read_many(range(24)) == local.read_many(range(24))
    assert other.stamp() == remote.stamp() != remote.select([0, 1]).stamp()
    assert remote.join(remote.select([3])).read(24) == local.read(3)
    with pytest.raises(DataError, match="cannot be joined"):
        remote.join(local)


def test_a_forked_process_is_refused_before_it_hangs(served_tar: FileServer, small_run: list[str]) -> None:
    config = configure(small_run, served_tar.url("images.tar"), "data.num_workers=1", "data.start_method=fork")
    with pytest.raises(ConfigError, match=r"data.start_method: fork would hang .*; use forkserver"):
        next(batches_of(config))
    source = source_of(served_tar.url("images.tar"))
    child = os.fork()
    if child == 0:
        try:
            source.read(0)
        except DataError as error:
            os._exit(7 if "a forked process cannot read it" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_missing_extra_is_named(served_tar: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs obstore; run pip install 'rexnet-lightning\[remote\]'"):
        source_of(served_tar.url("images.tar"))


def test_a_run_with_cache_validation_and_two_processes_never_hangs_and_then_reads_nothing(
    served_tar: FileServer, small_run: list[str]
) -> None:
    settings = [*small_run, f"data.root={served_tar.url('images.tar')}", "data.num_workers=2", "data.cache=disk"]
    command = [sys.executable, "-X", "faulthandler", "-c", "import sys, rexnet.cli; sys.exit(rexnet.cli.main())"]
    command += ["train", "--config", "finetune/folder.yaml", *settings, "schedule.epochs=1"]
    assert subprocess.run(command, timeout=200, check=False).returncode == 0
    assert len({span for *_, span in served_tar.requests if span}) >= 24 + 15
    del served_tar.requests[:]
    config = load_config("finetune/folder.yaml", settings)
    data = ImageData(config)
    data.prepare_data()
    data.setup("fit")
    loader = build_loader(data.train_dataset, build_train_sampler(config, data.train_index), data.loader_settings)
    assert sum(len(batch.labels) for batch in loader) == 24
    assert served_tar.requests == []
