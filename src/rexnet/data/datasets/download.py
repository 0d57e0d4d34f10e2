"""Data sets with a public address: downloaded once, verified, and unpacked completely or not at all."""

import fcntl
import os
import socket
import tarfile
from pathlib import Path
from typing import NamedTuple

from rexnet.errors import DataError, first_sentence
from rexnet.system.atomic_files import temporary_path

TIMEOUT_S = 60


class Remote(NamedTuple):
    """A file to download."""

    url: str
    md5: str
    gives: str  # name of the file, or of the folder that the archive unpacks to


# Addresses and checksums are those of torchvision. It has no address of the birds, which are at Caltech, and no
# checksum of the aircraft; these two checksums are the ones that several public projects agree on.
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
BIRDS = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
AIRCRAFT = f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
CIFAR = "https://www.cs.toronto.edu/~kriz/cifar"
FOOD = "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"
SOURCES: dict[str, tuple[Remote, ...]] = {
    "cub200": (Remote(BIRDS, "97eceeb196236b17998738112f37df78", "CUB_200_2011"),),
    "flowers102": (
        Remote(f"{OXFORD}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "jpg"),
        Remote(f"{OXFORD}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", "imagelabels.mat"),
        Remote(f"{OXFORD}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", "setid.mat"),
    ),
    "aircraft": (Remote(AIRCRAFT, "d4acdd33327262359767eeaa97a4f732", "fgvc-aircraft-2013b"),),
    "food101": (Remote(FOOD, "85eeb15f3717b99a5da872d97d918f87", "food-101"),),
    "cifar10": (Remote(f"{CIFAR}-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),),
    "cifar100": (Remote(f"{CIFAR}-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python"),),
}
OTHER_LAYOUTS = {
    "cub200": ("images.txt",),
    "flowers102": ("setid.mat", "flowers-102", "102flowers", "train"),
    "aircraft": ("variants.txt", "data/variants.txt"),
    "food101": ("meta",),
}
"""Files that show that a data set is there, in another layout than that of a download."""
NO_ADDRESS = {
    "imagenet": "ImageNet needs a registration at https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
    "cars": "the address of Stanford Cars is gone; mirrors on Kaggle and Hugging Face have it",
    "folder": "your own folders have no address",
    "csv": "your own tables have no address",
}


def where_from(dataset: str) -> str:
    """Returns where a published data set comes from, in words; an empty string for the user's own data."""
    if dataset in SOURCES:
        return "data.download=true downloads it"
    return NO_ADDRESS[dataset] if dataset in ("imagenet", "cars") else ""


def download_dataset(dataset: str, root: Path) -> None:
    """Downloads a data set into `root` unless it is there; several processes may call it at the same time."""
    if dataset in NO_ADDRESS:
        raise DataError(f"data.download: {NO_ADDRESS[dataset]}")
    remotes = SOURCES.get(dataset, ())
    names = [remote.gives for remote in remotes]
    others = [name for name in OTHER_LAYOUTS.get(dataset, ()) if name not in names]
    if all((root / name).exists() for name in names) or any((root / name).exists() for name in others):
        return
    if not hasattr(tarfile, "data_filter"):
        urls = " and ".join(remote.url for remote in remotes)
        raise DataError(f"data.download: Python 3.11.4 or newer unpacks archives safely; unpack {urls} into {root}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with open(root / ".download.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for remote in remotes:
                if not (root / remote.gives).exists():
                    _download(remote, root)
    except OSError as error:
        raise DataError(f"data.download: cannot write to {root}: {error.strerror or error}") from None


def _download(remote: Remote, root: Path) -> None:
    from torchvision.datasets.utils import download_url

    file = root / remote.url.rpartition("/")[2]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torchvision sets none, so a silent server would block the run forever
    try:
        download_url(remote.url, root, md5=remote.md5)
    except (RuntimeError, OSError) as error:  # a wrong checksum; and urllib's errors
        file.unlink(missing_ok=True)
        reason = f"has another MD5 than {remote.md5}" if isinstance(error, RuntimeError) else first_sentence(error)
        raise DataError(
            f"{remote.url}: cannot be downloaded: {reason}; get {file.name} elsewhere and put it into {root}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    if file.name != remote.gives:
        unpack(file, root, remote.gives)
        file.unlink()


def unpack(archive: Path, root: Path, gives: str) -> None:
    """Unpacks a tar into a temporary folder, then moves `gives` into `root`."""
    try:
        with temporary_path(root / gives) as temporary:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
            if not (temporary / gives).exists():
                raise DataError(f"{archive}: does not contain {gives}")
            os.replace(temporary / gives, root / gives)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {first_sentence(error)}") from None
