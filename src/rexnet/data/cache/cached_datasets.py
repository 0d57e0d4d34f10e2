"""Data sets that read pixels from a cache instead of decoding images."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rexnet.config.data_schema import AugmentationConfig, DataConfig
from rexnet.data.augment.transforms import Transform, build_eval_transform, build_train_transform
from rexnet.data.cache.cache_file import ImageCache, shrink
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.sources.source import digest
from rexnet.preprocessing import Preprocessing

SAMPLED_IMAGES = 96
RELATED = {"dataset", "train_on", "crop_to_box", "on_bad_image"}  # settings that decide which pixels an image has


class CachedDataset(ImageDataset):
    """An `ImageDataset` that reads pixels from `cache`; until that is open (see `filling.py`), it decodes images."""

    content: str  # description of what the cache stores, with all settings that change it
    cache: ImageCache | None = None

    def make(self, position: int) -> np.ndarray:
        """Returns the pixels to cache, uint8 (height, width, 3)."""
        raise NotImplementedError

    def estimate_bytes(self) -> int:
        """Estimates the size of the whole cache."""
        raise NotImplementedError

    def prefetch(self, positions: Sequence[int]) -> None:
        if self.cache is None:
            super().prefetch(positions)

    def cached(self, position: int) -> np.ndarray:
        """Returns pixels from the cache."""
        image: np.ndarray = self.make(position) if self.cache is None else self.cache[position]
        return image


class CachedImages(CachedDataset):
    """Caches decoded images, reduced to a short side of at most `short_side` pixels, for random transforms."""

    def __init__(self, index: Index, transform: Transform, seed: int, short_side: int) -> None:
        super().__init__(index, transform, seed)
        self.short_side = short_side
        self.content = f"training images of {short_side} px"

    def make(self, position: int) -> np.ndarray:
        return shrink(np.asarray(super().opened(position)), self.short_side)

    def opened(self, position: int) -> np.ndarray:
        return self.cached(position)

    def estimate_bytes(self) -> int:
        """Estimates the size from a sample that is spread evenly over the data set."""
        sampled = np.unique(np.linspace(0, len(self) - 1, SAMPLED_IMAGES).astype(int))
        self.prefetch(sampled.tolist())
        sizes = [self.make(int(position)).nbytes for position in sampled]
        error = 0.0 if len(sampled) == len(self) else float(np.std(sizes)) / len(sizes) ** 0.5
        return int(len(self) * (float(np.mean(sizes)) + 2 * error))


class CachedViews(CachedDataset):
    """Caches the output of a deterministic transform, byte for byte."""

    def __init__(self, index: Index, transform: Transform, preprocessing: Preprocessing) -> None:
        super().__init__(index, transform)
        crop = f"crop {preprocessing.crop_pct}, {preprocessing.interpolation}"
        self.content = f"evaluation views of {preprocessing.image_size} px ({crop})"

    def make(self, position: int) -> np.ndarray:
        return self.transform(self.opened(position), key=0)

    def view(self, position: int, key: int, epoch: int = 0) -> np.ndarray:
        return self.cached(position)

    def estimate_bytes(self) -> int:
        return len(self) * self.sample_bytes


def build_train_dataset(
    index: Index, data: DataConfig, augmentation: AugmentationConfig, sizes: Sequence[int], seed: int
) -> ImageDataset:
    """Returns the training images with their random transform, in the size of each epoch, cached if so configured."""
    transform = build_train_transform(data, augmentation, sizes)
    if data.cache is None:
        return ImageDataset(index, transform, seed)
    return CachedImages(index, transform, seed, round(data.cache_scale * max(sizes)))


def build_eval_dataset(index: Index, data: DataConfig, preprocessing: Preprocessing) -> ImageDataset:
    """Returns the validation images with the evaluation transform, cached if so configured."""
    transform = build_eval_transform(preprocessing)
    if data.cache is None:
        return ImageDataset(index, transform)
    return CachedViews(index, transform, preprocessing)


def cache_path(dataset: CachedDataset, data: DataConfig, folder: Path) -> Path:
    """Returns the cache file of a data set on disk.

    The name changes with everything that the cached pixels depend on: the settings, and the path, bounding box, size
    and modification time of every image.
    """
    index = dataset.index
    boxes = "" if index.boxes is None else index.boxes.tobytes().hex()
    key = digest([data.model_dump_json(include=RELATED), dataset.content, index.source.stamp(), boxes])
    return folder / f"rexnet-{os.getuid()}-{key[:16]}.images"
