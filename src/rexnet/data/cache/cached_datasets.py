"""Which images are kept decoded, where, and whether there is room for them."""

import hashlib
import logging
import os
import stat
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from rexnet.config.data_schema import DataConfig
from rexnet.config.schema import Config
from rexnet.data.augment.transforms import Transform, build_eval_transform, build_train_transform
from rexnet.data.cache.cache_file import ImageCache, is_finished, shrink
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import SHARED_MEMORY, explained_faults, start_worker
from rexnet.errors import DataError
from rexnet.preprocessing import resolve_preprocessing
from rexnet.system.resources import available_memory
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

SAMPLED_IMAGES = 96
FILL_BATCH = 16
RESERVE = 64 << 20  # bytes that are left free for others
MARGIN = 1.2  # of the space over the estimate; unused space of the file takes none on disk
RELATED = {"dataset", "train_on", "crop_to_box", "on_bad_image"}  # settings that decide which pixels an image has


class CachedImages(ImageDataset):
    """The same with images that are decoded once, and reduced to a short side of at most `short_side` pixels."""

    def __init__(self, index: Index, transform: Transform, seed: int, cache: ImageCache, short_side: int) -> None:
        super().__init__(index, transform, seed)
        self.cache, self.short_side = cache, short_side

    def decoded(self, position: int) -> np.ndarray:
        """The reduced image, whether it was in the cache before or not."""
        return self.cache.take(position, lambda: shrink(super(CachedImages, self).decoded(position), self.short_side))

    def fill(self, position: int) -> None:
        """Sees to it that the image is in the cache."""
        self.decoded(position)


class CachedViews(ImageDataset):
    """The same for a transform without randomness: its results are kept, so that they are the very same bytes."""

    def __init__(self, index: Index, transform: Transform, seed: int, cache: ImageCache) -> None:
        super().__init__(index, transform, seed)
        self.cache = cache

    def view(self, position: int, key: int) -> np.ndarray:
        """The result of the first time."""
        return self.cache.take(position, lambda: super(CachedViews, self).view(position, key))

    def fill(self, position: int) -> None:
        """Sees to it that the result is in the cache."""
        self.view(position, key=0)


def build_train_dataset(config: Config, index: Index, beside: int = 0) -> ImageDataset:
    """The training images with their random transform, cached as configured.

    Args:
        config: the run.
        index: the training images.
        beside: bytes that what is opened later needs in the place of the cache.

    Raises:
        DataError: there is no room for the cache.
    """
    transform = build_train_transform(config.data, config.augmentation)
    plain = ImageDataset(index, transform, config.seed)
    if config.data.cache is None:
        return plain
    short_side = _short_side(config)
    cache = _open_cache(config, index, _train_name(config), _estimate_bytes(plain, short_side), beside)
    return CachedImages(index, transform, config.seed, cache, short_side)


def build_eval_dataset(config: Config, index: Index) -> ImageDataset:
    """The validation images with the evaluation transform; as configured, the results are cached, to the same bytes.

    Raises:
        DataError: there is no room for the cache.
    """
    transform = build_eval_transform(resolve_preprocessing(config, index.class_names))
    if config.data.cache is None:
        return ImageDataset(index, transform, config.seed)
    cache = _open_cache(config, index, _eval_name(config), _eval_bytes(config, index))
    return CachedViews(index, transform, config.seed, cache)


def lacking_eval_bytes(config: Config, index: Index) -> int:
    """Bytes that `build_eval_dataset` will still want for its cache."""
    if config.data.cache is None:
        return 0
    return _lacking(_cache_path(config, index, _eval_name(config)), _eval_bytes(config, index))


def require_filled(config: Config, train: Index, val: Index) -> None:
    """Caches on disk must be complete where several nodes read them: they cannot fill a file that they share.

    Network file systems do not show one node in time what another has written to a file that both have mapped.

    Raises:
        DataError: a run on several nodes would have to fill one.
    """
    if config.data.cache != "disk" or config.trainer.num_nodes == 1:
        return
    for index, name in ((train, _train_name(config)), (val, _eval_name(config))):
        path = _cache_path(config, index, name)
        if not is_finished(path, len(index)):
            raise DataError(
                f"data.cache: {path} is not filled, and {config.trainer.num_nodes} nodes cannot fill it together; fill "
                f"it first by `rexnet data cache` with the same configuration (on each node where the folder is its "
                f"own), or set data.cache=ram"
            )


def _short_side(config: Config) -> int:
    return round(config.data.cache_scale * config.data.image_size)


def _train_name(config: Config) -> str:
    return f"training images of {_short_side(config)} px"


def _eval_name(config: Config) -> str:
    return f"evaluation views of {config.data.image_size} px ({config.eval_transform.model_dump_json()})"


def _eval_bytes(config: Config, index: Index) -> int:
    return len(index) * (config.data.image_size**2 * 3 + 16)


class _Filling(Dataset[int]):
    """A data set whose items put an image into the cache."""

    def __init__(self, dataset: CachedImages | CachedViews) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> int:
        self.dataset.where.note(position)
        self.dataset.fill(position)
        return position


def fill_cache(dataset: CachedImages | CachedViews, workers: int, config: DataConfig) -> None:
    """Decodes what the cache lacks, with a progress bar.

    Raises:
        DataError: an image cannot be decoded, a loader process died or hung, or there was no room for all.
    """
    loader = DataLoader(
        _Filling(dataset),
        batch_size=FILL_BATCH,
        num_workers=workers,
        multiprocessing_context=config.start_method if workers else None,
        timeout=config.worker_timeout if workers else 0,
        worker_init_fn=start_worker,
    )
    bar = progress_bar(len(dataset), " images", desc="image cache")
    with bar, explained_faults([dataset], config.worker_timeout):
        for positions in loader:
            bar.update(len(positions))
    if dataset.cache.filled < len(dataset):
        lacking = len(dataset) - dataset.cache.filled
        raise DataError(f"{dataset.cache.path}: had no room for {lacking:,} of {len(dataset):,} images")
    dataset.cache.finish()


def _open_cache(config: Config, index: Index, name: str, estimate: int, beside: int = 0) -> ImageCache:
    """The cache file of `index` for what `name` describes, where `estimate` bytes and those `beside` have room."""
    if config.data.cache == "ram":
        hint = "lower data.cache_scale, or use data.cache=disk; in a container, --shm-size gives more"
    else:
        hint = "lower data.cache_scale, or set data.cache_folder to a larger disk"
    path = _cache_path(config, index, name)
    free = require_space(path.parent, _lacking(path, estimate) + beside, hint)
    cache = ImageCache(path, len(index), int(estimate * MARGIN) + (1 << 20))
    log.info(
        f"Image cache  {len(index):,} {name.partition(' (')[0]}, about {size_text(estimate)} in {path.parent} "
        f"({size_text(free)} free), {cache.filled:,} already there"
    )
    return cache


def require_space(folder: Path, wanted: int, hint: str) -> int:
    """Bytes that are free where `folder` is or will be.

    Raises:
        DataError: there are fewer than `wanted` and a reserve; `hint` says what to do.
    """
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if place == SHARED_MEMORY:
        free = min(free, available_memory())
    if free < wanted + RESERVE:
        raise DataError(
            f"data.cache: needs {size_text(wanted)} and a reserve of {size_text(RESERVE)} in {place}, where "
            f"{size_text(free)} are free; {hint}"
        )
    return free


def _cache_path(config: Config, index: Index, name: str) -> Path:
    disk = config.data.cache_folder or config.trainer.runs_dir / "image-cache"
    folder = SHARED_MEMORY if config.data.cache == "ram" else disk
    return folder / f"rexnet-{os.getuid()}-{fingerprint(config, index, name)}.images"


def _lacking(path: Path, estimate: int) -> int:
    """Bytes that a cache file of `estimate` bytes will still take."""
    there = path.stat().st_blocks * 512 if path.is_file() else 0
    return max(0, estimate - there)


def _estimate_bytes(dataset: ImageDataset, short_side: int) -> int:
    """Size of all images after reduction, from some that are spread evenly over the data set."""
    sampled = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED_IMAGES).astype(int))
    sizes = [shrink(dataset.decoded(int(position)), short_side).nbytes for position in sampled]
    mean, error = float(np.mean(sizes)), float(np.std(sizes)) / len(sizes) ** 0.5
    exact = len(sampled) == len(dataset)
    return int(len(dataset) * (mean + (0 if exact else 2 * error)))


def fingerprint(config: Config, index: Index, name: str) -> str:
    """Another value where anything differs that the kept pixels depend on.

    That is: the settings of the data set, each image's path, box, size and time of last change, and what is kept of it.
    Of an archive, its own size and time say the same.
    """
    keys = config.data.model_dump_json(include=RELATED)
    digest = hashlib.sha256(f"{keys}\n{name}\n{index.source.stamp()}\n".encode())
    if index.boxes is not None:
        digest.update(index.boxes.tobytes())
    return digest.hexdigest()[:16]


def _state(path: str) -> str:
    """Size and time of last change of a file; nothing for a folder and for what is no file of its own."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""
