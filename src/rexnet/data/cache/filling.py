"""Fills image caches before a run, in files that later runs use again."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rexnet.config.data_schema import DataConfig
from rexnet.config.schema import TrainerConfig
from rexnet.data.cache.cache_file import Shape, open_cache, write_cache
from rexnet.data.cache.cached_datasets import CachedDataset, cache_path
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import LoaderSettings, share_source
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import explained_faults, require_shared_memory, start_worker
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

BATCH = 8
RESERVE = 64 << 20  # bytes that stay free


class CacheStore:
    """The caches of a run: fills them in one process of each machine, then opens them in all processes."""

    def __init__(self, datasets: Sequence[ImageDataset], data: DataConfig, trainer: TrainerConfig) -> None:
        self.datasets = [dataset for dataset in datasets if isinstance(dataset, CachedDataset)]
        self.data = data
        self.folder = data.cache_folder or trainer.runs_dir / "image-cache"
        self._paths: dict[CachedDataset, Path] = {}

    def missing(self) -> list[CachedDataset]:
        """Returns the data sets whose cache is not filled."""
        return [dataset for dataset in self.datasets if open_cache(self.path_of(dataset), len(dataset)) is None]

    def path_of(self, dataset: CachedDataset) -> Path:
        """Returns the file of a cache."""
        if dataset not in self._paths:  # its name depends on the state of every image file
            self._paths[dataset] = cache_path(dataset, self.data, self.folder)
        return self._paths[dataset]

    def require_filled(self, nodes: int) -> None:
        """Raises an error if several nodes would have to fill a cache, which they may share."""
        if nodes > 1 and (missing := self.missing()):
            raise DataError(
                f"data.cache: {self.path_of(missing[0])} is missing, and a run on {nodes} nodes does not fill it; run "
                f"`rexnet data cache` with the same configuration first (on every node if the folder is local)"
            )

    def require_space(self) -> tuple[int, int]:
        """Checks that the missing caches fit; returns their estimated size and the free space in bytes."""
        needed = sum(dataset.estimate_bytes() for dataset in self.missing())
        folder = self.folder.absolute()
        free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
        if free < needed + RESERVE:
            raise DataError(
                f"data.cache: needs {size_text(needed)} in {self.folder}, but {size_text(free)} are free, of which "
                f"{size_text(RESERVE)} are reserved; lower data.cache_scale or set data.cache_folder to a larger disk"
            )
        return needed, free

    def fill(self, settings: LoaderSettings) -> None:
        """Decodes all images of the missing caches, with a progress bar."""
        missing = self.missing()
        if not missing:
            return
        needed, free = self.require_space()
        names = " and ".join(f"{len(dataset):,} {dataset.content.partition(' (')[0]}" for dataset in missing)
        log.info(f"Image cache  {names}, about {size_text(needed)} in {self.folder} ({size_text(free)} free)")
        for dataset in missing:
            with atomic_write(self.path_of(dataset)) as temporary:
                temporary.touch(mode=0o600)
                with open(temporary, "r+b") as file:
                    _write(file, dataset, settings)

    def open(self) -> None:
        """Opens the caches in this process; all processes of a run call this after the caches are filled."""
        for dataset in self.datasets:
            path = self.path_of(dataset)
            try:
                dataset.cache = open_cache(path, len(dataset))
            except OSError as error:
                raise DataError(f"data.cache: {path} cannot be opened: {error.strerror}") from None
            if dataset.cache is None:
                raise DataError(f"data.cache: {path} is missing or damaged; start again")


class _Decoding(Dataset[np.ndarray]):
    """The pixels to cache, by position."""

    def __init__(self, dataset: CachedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, positions: list[int]) -> list[np.ndarray]:
        self.dataset.prefetch(positions)
        return [self[position] for position in positions]

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
        multiprocessing_context=share_source(dataset.index.source, settings, processes=1),
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
