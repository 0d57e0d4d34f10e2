"""scikit-learn's handwritten digits, written as image files so that they are read like any other data set."""

import os
from pathlib import Path

import numpy as np

from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.datasets.index import Layout
from rexnet.errors import DataError
from rexnet.system.atomic_files import temporary_path

TEST_IMAGES = 360
SCALE = 15  # pixels are 0 to 16
SIDE = 32  # enlarged from 8 pixels


def write_digits(root: Path) -> Path:
    """Writes 1,437 training and 360 validation images of the digits 0 to 9 into `root` on first use; returns `root`.

    The validation images are always the same, in equal parts of each digit. Source: E. Alpaydin, C. Kaynak, UCI
    Optical Recognition of Handwritten Digits, test part, as `sklearn.datasets.load_digits` ships it.
    """
    if (root / "train").is_dir() and (root / "val").is_dir():
        return root
    try:
        if root.exists() and any(root.iterdir()):
            raise DataError(f"data.root: {root} contains other files; give the digits a folder of their own")
        root.parent.mkdir(parents=True, exist_ok=True)
        with temporary_path(root) as temporary:
            _write_images(temporary)
            os.rename(temporary, root)  # replaces an empty folder
    except OSError as error:
        if not (root / "train").is_dir():  # else another process of this run was faster
            raise DataError(f"data.root: the digits cannot be written to {root}: {error.strerror}") from None
    return root


def _write_images(root: Path) -> None:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise DataError("the digits come with scikit-learn: pip install scikit-learn") from None
    import cv2

    digits = load_digits()
    numbers = np.arange(len(digits.target))
    train, val = train_test_split(numbers, test_size=TEST_IMAGES, stratify=digits.target, random_state=0)
    for split, chosen in {"train": train, "val": val}.items():
        for number in chosen:
            folder = root / split / str(digits.target[number])
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[number] * SCALE).clip(0, 255).astype(np.uint8)
            enlarged = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            # Not cv2.imwrite, which reports no full disk.
            (folder / f"{number:04d}.png").write_bytes(cv2.imencode(".png", enlarged)[1].tobytes())


LAYOUT = Layout(lambda root, split: index_folders(write_digits(root), split), ("train", "val"))
