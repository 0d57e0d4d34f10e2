"""Indexes a remote data set once, and keeps its catalog in the user's cache."""

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

import rexnet
from rexnet.config.data_schema import DatasetName, FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.errors import ConfigError, DataError
from rexnet.system.atomic_files import cache_folder, require_writable, temporary_path

log = logging.getLogger(__name__)

FORMAT = 1
LAYOUTS: tuple[DatasetName, ...] = ("folder", "csv", "webdataset")
_reported: set[Path] = set()


def open_remote(root: RemotePath, dataset: DatasetName, fetch: FetchConfig, again: bool = False) -> RemoteSource:
    """Returns all images of a data set, and indexes it first if it has no catalog yet, or if `again` is set.

    Raises:
        ConfigError: this layout cannot be read from an object store, or `obstore` is missing.
        DataError: the data set cannot be listed or read.
    """
    if dataset not in LAYOUTS:
        raise ConfigError(f"data.root: {root} is remote, which needs data.dataset={' or '.join(LAYOUTS)}")
    if importlib.util.find_spec("obstore") is None:
        raise ConfigError(f"data.root: {root} needs obstore; run pip install 'rexnet-lightning[remote]'")
    name = hashlib.sha256(f"{FORMAT} {root} {dataset}".encode()).hexdigest()[:16]
    folder = cache_folder() / f"{root.name}-{name}"
    if again or not folder.exists():
        require_writable(folder.with_suffix(".lock"))
        with FileLock(folder.with_suffix(".lock")), temporary_path(folder) as temporary:
            if again or not folder.exists():  # another process of this machine may have indexed it meanwhile
                temporary.mkdir(parents=True)
                _index_in_child(root, dataset, fetch, temporary)
                shutil.rmtree(folder, ignore_errors=True)
                temporary.replace(folder)
    source = RemoteSource(root, folder, fetch)
    if folder not in _reported:  # the user has to know, since new objects are not noticed
        _reported.add(folder)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
        log.info(f"{root}: {len(source):,} images, as indexed at {when} (again with `rexnet data index {root}`)")
    return source


def _index_in_child(root: RemotePath, dataset: DatasetName, fetch: FetchConfig, folder: Path) -> None:
    """Builds the catalog in another process, because later forks of this one would hang if it had used a store."""
    command = [sys.executable, "-m", "rexnet.data.remote.catalog_builder"]
    command += [str(root), dataset, fetch.model_dump_json(), str(folder)]
    places = (str(Path(rexnet.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)  # noqa: S603
    if child.returncode:
        raise DataError(child.stdout.strip() or f"{root}: indexing ended with exit code {child.returncode}")
