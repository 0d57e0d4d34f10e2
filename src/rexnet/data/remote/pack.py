"""Packs images in a shuffled order into plain tar shards, which WebDataset, DALI and timm can read, too."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index
from rexnet.data.remote.store import INFO
from rexnet.data.sources.tar import open_tar
from rexnet.errors import ConfigError
from rexnet.system.atomic_files import atomic_write, write_json
from rexnet.system.terminal import progress_bar

SHARD_BYTES = 128_000_000
AHEAD = 64  # images that a remote source fetches at once


def pack(indexes: dict[str, Index], folder: Path, shard_bytes: int = SHARD_BYTES, seed: int = 0) -> list[Path]:
    """Writes the shards of each split, their indexes and `_info.json`; returns the shards.

    Images keep their bytes. A sample is `NUMBER.jpg` (or another suffix) and `NUMBER.cls`, the number of its class.

    Raises:
        ConfigError: the folder exists and is not empty, or cannot be written to.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; give the name of a new folder")
    splits, shards = {}, []
    for split, index in indexes.items():
        written = list(_write_split(split, index, folder, shard_bytes, seed))
        names, counts = [path.name for path, _ in written], [count for _, count in written]
        splits[split] = {"name": split, "filenames": names, "shard_lengths": counts, "num_samples": len(index)}
        shards += [path for path, _ in written]
    info = {"splits": splits, "class_names": next(iter(indexes.values())).class_names}
    write_json(folder / INFO, info)
    return shards


def _write_split(split: str, index: Index, folder: Path, shard_bytes: int, seed: int) -> Iterator[tuple[Path, int]]:
    """Yields the path and number of images of each shard."""
    order, done = np.random.default_rng(seed).permutation(len(index)).tolist(), 0
    with progress_bar(len(index), " images", desc=split) as bar:
        for number in range(len(index)):
            if done == len(index):
                break
            path, first = folder / f"{split}-{number:05d}.tar", done
            with atomic_write(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                while done < len(index) and (done == first or tar.offset < shard_bytes):
                    if done % AHEAD == 0:
                        index.source.prefetch(order[done : done + AHEAD])
                    suffix = os.path.splitext(index.paths[order[done]])[1].lower()
                    _add(tar, f"{done:08d}{suffix}", index.read(order[done]))
                    _add(tar, f"{done:08d}.cls", str(index.labels[order[done]]).encode())
                    done += 1
                    bar.update()
            open_tar(path)  # writes the index
            yield path, done - first


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
