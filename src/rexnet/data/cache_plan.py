"""Which images are kept decoded, where, and whether there is room for them."""

import hashlib
import logging
import os
import stat
import sys

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from rexnet.config.schema import Config
from rexnet.data.cache import SHARED_MEMORY, ImageCache, require_space, shrink
from rexnet.data.dataset import CachedImages, CachedViews, ImageDataset
from rexnet.data.index import Index
from rexnet.data.transforms import build_eval_transform, build_train_transform
from rexnet.errors import DataError

log = logging.getLogger(__name__)

SAMPLED_IMAGES = 96
FILL_BATCH = 16
MARGIN = 1.2  # of the space over the estimate; unused space of the file takes none on disk
RELATED = {"dataset", "train_on", "crop_to_box", "on_bad_image"}  # settings that decide which pixels an image has


def build_train_dataset(config: Config, index: Index) -> ImageDataset:
    """The training images with their random transform, cached as configured.

    Raises:
        DataError: there is no room for the cache.
    """
    transform = build_train_transform(config.data, config.augmentation)
    plain = ImageDataset(index, transform, config.seed)
    if config.data.cache is None:
        return plain
    short_side = round(config.data.cache_scale * config.data.image_size)
    cache = _open_cache(config, index, f"training images of {short_side} px", _estimate_bytes(plain, short_side))
    return CachedImages(index, transform, config.seed, cache, short_side)


def build_eval_dataset(config: Config, index: Index) -> ImageDataset:
    """The validation images with the evaluation transform; as configured, the results are cached, to the same bytes.

    Raises:
        DataError: there is no room for the cache.
    """
    size = config.data.image_size
    transform = build_eval_transform(size, config.eval_transform)
    if config.data.cache is None:
        return ImageDataset(index, transform, config.seed)
    name = f"evaluation views of {size} px ({config.eval_transform.model_dump_json()})"
    cache = _open_cache(config, index, name, len(index) * (size * size * 3 + 16))
    return CachedViews(index, transform, config.seed, cache)


class _Filling(Dataset[int]):
    """A data set whose items put an image into the cache."""

    def __init__(self, dataset: CachedImages | CachedViews) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> int:
        self.dataset.fill(position)
        return position


def fill_cache(dataset: CachedImages | CachedViews, workers: int) -> None:
    """Decodes what the cache lacks, with a progress bar.

    Raises:
        DataError: an image cannot be decoded, or there was no room for all.
    """
    loader = DataLoader(_Filling(dataset), batch_size=FILL_BATCH, num_workers=workers)
    with tqdm(total=len(dataset), unit="img", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        for positions in loader:
            bar.update(len(positions))
    if dataset.cache.filled < len(dataset):
        lacking = len(dataset) - dataset.cache.filled
        raise DataError(f"{dataset.cache.path}: had no room for {lacking:,} of {len(dataset):,} images")
    dataset.cache.finish()


def _open_cache(config: Config, index: Index, name: str, estimate: int) -> ImageCache:
    """The cache file of `index` for what `name` describes, where `estimate` bytes have room."""
    file_name = f"rexnet-{os.getuid()}-{fingerprint(config, index, name)}.images"
    if config.data.cache == "ram":
        folder, hint = SHARED_MEMORY, "lower data.cache_scale, or use data.cache=disk"
        hint += "; in a container, --shm-size gives more"
    else:
        folder = config.data.cache_folder or config.trainer.runs_dir / "image-cache"
        hint = "lower data.cache_scale, or set data.cache_folder to a larger disk"
    path = folder / file_name
    there = path.stat().st_blocks * 512 if path.is_file() else 0
    free = require_space(folder, max(0, estimate - there), hint)
    cache = ImageCache(path, len(index), int(estimate * MARGIN) + (1 << 20))
    log.info(
        f"Image cache  {len(index):,} {name.partition(' (')[0]}, about {estimate / 1e9:.2f} GB in {path.parent} "
        f"({free / 1e9:.1f} GB free), {cache.filled:,} already there"
    )
    return cache


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
    digest = hashlib.sha256(f"{keys}\n{name}\n{_state(str(index.root))}\n".encode())
    for path in index.paths:
        state = "" if index.archive else _state(os.path.join(index.root, path))
        digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
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
