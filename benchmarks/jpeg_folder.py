"""Writes class folders of JPEG files of the size of ImageNet photographs, to measure a whole training program.

    python benchmarks/jpeg_folder.py FOLDER [--images 8000] [--size 500 375]

The images are noise of all scales, whose files (about 110 kB at quality 90) take as long to decode as photographs of
that size. A tenth as many are written for validation.
"""

import argparse
import functools
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np

CLASSES = 10


def main() -> None:
    """Writes `train` and `val`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8000, help="for training (default: 8000)")
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), help="width and height (default: 500 375)")
    options = parser.parse_args()
    for split, images in {"train": options.images, "val": max(CLASSES, options.images // 10)}.items():
        for number in range(CLASSES):
            (options.folder / split / f"class{number}").mkdir(parents=True, exist_ok=True)
        with Pool() as pool:
            pool.map(functools.partial(write_image, options.folder / split, *options.size), range(images))


def write_image(folder: Path, width: int, height: int, number: int) -> None:
    """Writes the image of a number; its class has a mean color of its own."""
    rng, label = np.random.default_rng(number), number % CLASSES
    pixels = np.zeros((height, width, 3), np.float32) + np.random.default_rng(label).uniform(64, 192, 3)
    side = 4
    while side < width:
        noise = rng.standard_normal((side * height // width, side, 3), dtype=np.float32)
        pixels += 64 * (4 / side) ** 0.2 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        side *= 2
    path = folder / f"class{label}" / f"{number:06d}.jpg"
    cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
