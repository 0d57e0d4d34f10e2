"""Fills image caches before a run: in shared memory for one run, or in files for later runs as well."""

import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from rexnet.config.data_schema import DataConfig
from rexnet.config.schema import TrainerConfig
from rexnet.data.cache.cache_file import Shape, open_cache, write_cache
from rexnet.data.cache.cached_datasets import CachedDataset, cache_path
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import LoaderSettings
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import explained_faults, require_shared_memory, start_worker
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write
from rexnet.system.resources import available_memory
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

BATCH = 8
RESERVE = 64 << 20  # bytes that stay free


class CacheStore:
    """The caches of a run: fills them in one process of each machine, then opens them in all processes.

    Caches in memory are anonymous memory files (memfd) of the process that filled them. They are never visible under
    a name, so the kernel frees them with the last process of the run, however it ends.

    Args:
        datasets: data sets of the run; those without a cache are ignored.
        data: settings of the cache.
        trainer: says where caches on disk are by default.
    """

    def __init__(self, datasets: Sequence[ImageDataset], data: DataConfig, trainer: TrainerConfig) -> None:
        self.datasets = [dataset for dataset in datasets if isinstance(dataset, CachedDataset)]
        self.data = data
        self.folder = data.cache_folder or trainer.runs_dir / "image-cache"
        self._paths: dict[CachedDataset, Path] = {}
        self._memory: list[int] = []
        """Descriptors of the memory files that this process has filled."""
        weakref.finalize(self, _close, self._memory)

    def missing(self) -> list[CachedDataset]:
        """Returns the data sets whose cache is not filled."""
        if self.data.cache == "ram":
            return [] if self._memory else self.datasets
        return [dataset for dataset in self.datasets if open_cache(self.path_of(dataset), len(dataset)) is None]

    def path_of(self, dataset: CachedDataset) -> Path:
        """Returns the file of a cache on disk."""
        if dataset not in self._paths:  # its name depends on the state of every image file
            self._paths[dataset] = cache_path(dataset, self.data, self.folder)
        return self._paths[dataset]

    def require_filled(self, nodes: int) -> None:
        """Raises an error if several nodes would have to fill a cache on disk, which they may share.

        Raises:
            DataError: a cache is not filled.
        """
        if self.data.cache == "disk" and nodes > 1 and (missing := self.missing()):
            raise DataError(
                f"data.cache: {self.path_of(missing[0])} is missing, and a run on {nodes} nodes does not fill it; run "
                f"`rexnet data cache` with the same configuration first (on every node if the folder is local), or set "
                f"data.cache=ram"
            )

    def require_space(self, prefetched: int = 0) -> tuple[int, int]:
        """Checks that the missing caches fit; returns their estimated size and the free space in bytes.

        Args:
            prefetched: bytes of memory that the loaders will need besides the cache.

        Raises:
            DataError: there is too little space.
        """
        needed = sum(dataset.estimate_bytes() for dataset in self.missing())
        if self.data.cache == "ram":
            free, place, hint = available_memory(), "memory", "lower data.cache_scale or set data.cache=disk"
            required = needed + prefetched
        else:
            parents = (self.folder.absolute(), *self.folder.absolute().parents)
            status = os.statvfs(next(parent for parent in parents if parent.exists()))
            free, place, required = status.f_bavail * status.f_frsize, str(self.folder), needed
            hint = "lower data.cache_scale or set data.cache_folder to a larger disk"
        if free < required + RESERVE:
            raise DataError(
                f"data.cache: needs {size_text(required)} in {place}, but {size_text(free)} are free, "
                f"of which {size_text(RESERVE)} are reserved; {hint}"
            )
        return needed, free

    def fill(self, settings: LoaderSettings, prefetched: int = 0) -> None:
        """Decodes all images of the missing caches, with a progress bar.

        Raises:
            DataError: there is too little space, an image is broken, or a loader process died or hung.
        """
        missing = self.missing()
        if not missing:
            return
        needed, free = self.require_space(prefetched)
        place = "memory" if self.data.cache == "ram" else self.folder
        names = " and ".join(f"{len(dataset):,} {dataset.content.partition(' (')[0]}" for dataset in missing)
        log.info(f"Image cache  {names}, about {size_text(needed)} in {place} ({size_text(free)} free)")
        for dataset in missing:
            if self.data.cache == "ram":
                self._fill_memory(dataset, settings)
                continue
            with atomic_write(self.path_of(dataset)) as temporary:
                temporary.touch(mode=0o600)
                with open(temporary, "r+b") as file:
                    _write(file, dataset, settings)

    def open(self, node_rank: int = 0) -> None:
        """Opens the caches in this process; all processes of a run call this after the caches are filled.

        Raises:
            DataError: a cache is missing or cannot be opened.
        """
        if self.data.cache == "ram":
            files = [Path(f"/proc/{process}/fd/{number}") for process, number in self._descriptors_of(node_rank)]
        else:
            files = [self.path_of(dataset) for dataset in self.datasets]
        for dataset, path in zip(self.datasets, files, strict=True):
            try:
                dataset.cache = open_cache(path, len(dataset))
            except OSError as error:
                raise DataError(f"data.cache: {path} cannot be opened: {error.strerror}") from None
            if dataset.cache is None:
                raise DataError(f"data.cache: {path} is missing or damaged; start again")

    def _fill_memory(self, dataset: CachedDataset, settings: LoaderSettings) -> None:
        if not hasattr(os, "memfd_create"):
            raise DataError("data.cache: ram needs Linux; set data.cache=disk")
        descriptor = os.memfd_create("rexnet-image-cache")
        try:
            with open(descriptor, "r+b", closefd=False) as file:
                _write(file, dataset, settings)
        except OSError as error:
            raise DataError(f"data.cache: memory cannot be written: {error.strerror}") from None
        self._memory.append(descriptor)

    def _descriptors_of(self, node_rank: int) -> list[tuple[int, int]]:
        """Returns process and descriptor of each memory file of this node, from the process that filled them."""
        mine = (node_rank, [(os.getpid(), descriptor) for descriptor in self._memory])
        everyone = [mine]
        if distributed.is_initialized():
            everyone = [mine] * distributed.get_world_size()
            distributed.all_gather_object(everyone, mine)
        return next(descriptors for node, descriptors in everyone if node == node_rank and descriptors)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Decoding(Dataset[np.ndarray]):
    """The pixels to cache, by position."""

    def __init__(self, dataset: CachedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> np.ndarray:
        self.dataset.progress.record(position)
        return self.dataset.make(position)


def _pack(images: Sequence[np.ndarray]) -> tuple[list[Shape], Tensor]:
    """Returns the shapes of images and their pixels in one tensor, which workers hand over without a copy."""
    pixels = torch.from_numpy(np.concatenate([image.ravel() for image in images]))
    return [image.shape for image in images], pixels


def _write(file: BinaryIO, dataset: CachedDataset, settings: LoaderSettings) -> None:
    require_shared_memory(settings.workers, BATCH * dataset.estimate_bytes() // len(dataset))
    loader = DataLoader(
        _Decoding(dataset),
        batch_size=BATCH,
        collate_fn=_pack,
        num_workers=settings.workers,
        multiprocessing_context=settings.start_method if settings.workers else None,
        timeout=settings.timeout if settings.workers else 0,
        worker_init_fn=start_worker,
    )
    bar = progress_bar(len(dataset), " images", desc="image cache")

    def batches() -> Iterator[tuple[list[Shape], np.ndarray]]:
        for shapes, pixels in loader:
            yield shapes, pixels.numpy()
            bar.update(len(shapes))

    with bar, explained_faults([dataset], settings.timeout):
        write_cache(file, batches(), len(dataset))
