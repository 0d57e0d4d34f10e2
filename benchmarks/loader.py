"""Measures images/s of three loaders on the same JPEG files with the same operations: ours, timm's, torchvision v2's.

    python benchmarks/loader.py FOLDER [--image-size 224] [--workers 0,2] [--seconds 10]

FOLDER holds JPEG files at any depth. Each side reads a file, decodes it, takes a random resized crop with a random
bilinear or bicubic filter, flips, applies RandAugment (m9, mstd 0.5, 2 operations of 15) and returns uint8 batches, as
for a device that normalizes and erases: timm by its `create_loader` up to its collation, torchvision by v2 transforms
on uint8 tensors (its RandAugment has 14 operations, no spread of the strength and no coin; it is the nearest it has).
Ours is measured twice, without a cache and with a filled one. The sides take turns, `--rounds` times, and the best
round of each counts, since other work on the machine only ever slows down. 0 workers: one process, thus one core.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core is a core

import numpy as np
import torch
from PIL import Image
from timm.data import create_loader
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from rexnet.config import Config, load_config
from rexnet.data.cache.cached_datasets import build_train_dataset
from rexnet.data.cache.filling import CacheStore
from rexnet.data.dataset import stack
from rexnet.data.datasets.index import build_index
from rexnet.data.loaders import resolve_loader
from rexnet.data.sampling import TrainBatchSampler

BATCH = 64


class Files(Dataset):
    """The files for timm and torchvision, as PIL image and label."""

    def __init__(self, paths: list[Path], transform: Callable | None = None) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple:
        image = Image.open(self.paths[position]).convert("RGB")
        return (self.transform(image) if self.transform else image), 0


def main() -> None:
    """Measures all sides in turn and prints a table with ratios to timm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", default="0,2", help="numbers of loader processes (default: 0,2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement (default: 10)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    torch.set_num_threads(1)
    print(f"{len(paths)} files, {options.image_size} px, batches of {BATCH}, images/s (ratio to timm)")
    for workers in map(int, options.workers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            sides = build_sides(paths, options, workers, folder)
            speeds = dict.fromkeys(sides, 0.0)
            for _ in range(options.rounds):
                for name, loader in sides.items():
                    speeds[name] = max(speeds[name], measure(loader, options.seconds, workers))
        where = f"{workers} loader processes" if workers else "one core"
        print(f"\n{where}")
        for name, speed in speeds.items():
            print(f"  {name:22} {speed:8.0f}   {speed / speeds['timm']:5.2f}", flush=True)


def build_sides(paths: list[Path], options: argparse.Namespace, workers: int, folder: str) -> dict[str, Callable]:
    """Returns, for each side, a function that yields one epoch of uint8 batches."""
    config = load_config(
        "imagenet", [f"data.image_size={options.image_size}", f"data.cache_folder={folder}", "data.last_batch=pad"]
    )
    cached = config.model_copy(update={"data": config.data.model_copy(update={"cache": "disk"})})
    return {
        "timm": timm_loader(paths, options.image_size, workers),
        "torchvision v2": torchvision_loader(paths, options.image_size, workers),
        "ours": our_loader(config, paths, workers),
        "ours, cached": our_loader(cached, paths, workers),
    }


def our_loader(config: Config, paths: list[Path], workers: int) -> Callable[[], Iterable]:
    """Returns our loader, with a filled cache if the config has one."""
    labels = np.zeros(len(paths), dtype=np.int64)
    index = build_index(Path("/"), [str(path.absolute()) for path in paths], labels, ("any",))
    dataset = build_train_dataset(index, config.data, config.augmentation, config.training_sizes, config.seed)
    cache = CacheStore([dataset], config.data, config.trainer)
    cache.fill(resolve_loader(config.data, config.trainer)._replace(workers=0))
    cache.open()
    for cached in cache.datasets:
        size = cache.path_of(cached).stat().st_size / 1e9
        print(f"cache: {cached.content}, {size:.2f} GB for {len(paths)} images", flush=True)
    sampler = TrainBatchSampler(len(paths), min(BATCH, len(paths)), seed=0, last_batch="pad")
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=stack, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: (batch.images for batch in loader)


def timm_loader(paths: list[Path], size: int, workers: int) -> Callable[[], Iterable]:
    """Returns timm's loader with its fast collation, without the normalization and erasing of its prefetcher."""
    prefetching = create_loader(
        Files(paths),
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        auto_augment="rand-m9-mstd0.5",
        interpolation="random",
        color_jitter=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=False,
        use_prefetcher=True,
        device=torch.device("cpu"),
    )
    return lambda: (images for images, _ in prefetching.loader)


def torchvision_loader(paths: list[Path], size: int, workers: int) -> Callable[[], Iterable]:
    """Returns a plain DataLoader with v2 transforms on uint8 tensors, antialiased as is torchvision's default."""
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    crops = [v2.RandomResizedCrop(size, interpolation=name) for name in filters]
    transform = v2.Compose(
        [v2.PILToTensor(), v2.RandomChoice(crops), v2.RandomHorizontalFlip(), v2.RandAugment(num_ops=2, magnitude=9)]
    )
    loader = DataLoader(
        Files(paths, transform), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: (images for images, _ in loader)


def measure(epoch: Callable[[], Iterable], seconds: float, workers: int) -> float:
    """Returns images/s over `seconds`, after all processes have started."""
    ahead, images, began = 1 + 2 * workers, 0, 0.0
    while True:
        for batch in epoch():
            assert batch.dtype == torch.uint8
            ahead -= 1
            if ahead == 0:
                began = time.perf_counter()
            elif ahead < 0:
                images += len(batch)
                if time.perf_counter() - began >= seconds:
                    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
