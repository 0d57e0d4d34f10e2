"""The embedded data set: scikit-learn's handwritten digits as image files, so that they take the road of real data."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from rexnet.errors import DataError

TEST_IMAGES = 360
SCALE = 15  # the pixels are 0 to 16
SIDE = 32  # enlarged from 8, since photographs are not 8 pixels wide either


def write_digits(root: Path) -> Path:
    """The folder `root` with 1,437 training and 360 validation images of the digits 0 to 9, written on first use.

    The held-out images are drawn once and for all, in equal shares of each digit. Source: E. Alpaydin, C. Kaynak, UCI
    Optical Recognition of Handwritten Digits, test part, as `sklearn.datasets.load_digits` ships it.

    Raises:
        DataError: scikit-learn is not installed, or `root` holds something else or cannot be written.
    """
    if (root / "train").is_dir() and (root / "val").is_dir():
        return root
    try:
        return _write(root)
    except OSError as error:
        raise DataError(f"data.root: the digits cannot be written to {root}: {error.strerror}") from None


def _write(root: Path) -> Path:
    """Makes the folders beside `root`, then renames them, so that `root` is complete or not there."""
    if root.exists() and any(root.iterdir()):
        raise DataError(f"data.root: {root} holds other files; give the digits a folder of their own")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits come with scikit-learn: pip install scikit-learn") from None
    import cv2
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, val = train_test_split(
        np.arange(len(digits.target)), test_size=TEST_IMAGES, stratify=digits.target, random_state=0
    )
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
    try:
        for split, numbers in {"train": train, "val": val}.items():
            for number in numbers:
                folder = temporary / split / str(digits.target[number])
                folder.mkdir(parents=True, exist_ok=True)
                pixels = (digits.images[number] * SCALE).clip(0, 255).astype(np.uint8)
                enlarged = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
                # Not cv2.imwrite, which says nothing of a full disk.
                (folder / f"{number:04d}.png").write_bytes(cv2.imencode(".png", enlarged)[1].tobytes())
        temporary.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        os.rename(temporary, root)  # an empty folder is replaced
    except OSError:
        if not (root / "train").is_dir():  # else another process of this run was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root
