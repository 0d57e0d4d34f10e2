"""Data sets with a public address: fetched once, checked, and unpacked as a whole or not at all."""

import fcntl
import os
import platform
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rexnet.errors import DataError, first_sentence

TIMEOUT_S = 60
MOST_MEMBERS = 1_000_000
MOST_BYTES = 64 << 30


class Remote(NamedTuple):
    """A file to fetch."""

    url: str
    md5: str
    gives: str
    """What is there afterwards: the file itself, or what the archive unpacks to."""


# Addresses and checksums are those of torchvision's data sets; it has none for the birds, whose address is Caltech's,
# nor a checksum of the aircraft. Those two checksums are the ones that several public projects agree on.
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
SOURCES: dict[str, tuple[Remote, ...]] = {
    "cub200": (
        Remote(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "97eceeb196236b17998738112f37df78",
            "CUB_200_2011",
        ),
    ),
    "flowers102": (
        Remote(f"{OXFORD}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "jpg"),
        Remote(f"{OXFORD}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", "imagelabels.mat"),
        Remote(f"{OXFORD}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", "setid.mat"),
    ),
    "aircraft": (
        Remote(
            f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            "d4acdd33327262359767eeaa97a4f732",
            "fgvc-aircraft-2013b",
        ),
    ),
    "food101": (
        Remote("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87", "food-101"),
    ),
}
ALREADY_THERE = {
    "cub200": ("images.txt",),
    "flowers102": ("setid.mat", "flowers-102", "102flowers", "train"),
    "aircraft": ("variants.txt", "data/variants.txt"),
    "food101": ("meta",),
}
NO_ADDRESS = {
    "imagenet": "ImageNet needs a registration at https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
    "cars": "the address of Stanford Cars is gone; mirrors on Kaggle and Hugging Face have it",
    "folder": "your own folders have no address",
    "csv": "your own tables have no address",
}


def where_from(dataset: str) -> str:
    """How a published data set is to be had, in words; nothing for one's own."""
    if dataset in SOURCES:
        return "data.download=true fetches it"
    return NO_ADDRESS[dataset] if dataset in ("imagenet", "cars") else ""


def fetch(dataset: str, root: Path) -> None:
    """Puts the files of a data set into `root` unless they are there; several processes may ask at once.

    Raises:
        DataError: there is no public address, it is dead, or what came is not what should have come.
    """
    if dataset in NO_ADDRESS:
        raise DataError(f"data.download: {NO_ADDRESS[dataset]}")
    remotes = SOURCES.get(dataset, ())
    names = [remote.gives for remote in remotes]
    if all((root / name).exists() for name in names):
        return
    if any((root / name).exists() for name in ALREADY_THERE[dataset] if name not in names):  # it came in another form
        return
    _require_safe_unpacking(remotes, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with open(root / ".download.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for remote in remotes:
                if not (root / remote.gives).exists():
                    _fetch_one(remote, root)
    except OSError as error:
        raise DataError(f"data.download: cannot write to {root}: {error.strerror or error}") from None


def _require_safe_unpacking(remotes: tuple[Remote, ...], root: Path) -> None:
    """Looks before gigabytes are fetched: Python 3.11 before 3.11.4 cannot keep an archive inside its folder."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"data.download: Python {platform.python_version()} cannot unpack archives safely, 3.11.4 and newer can; "
            f"fetch {' and '.join(remote.url for remote in remotes)} and unpack into {root} by hand"
        )


def _fetch_one(remote: Remote, root: Path) -> None:
    from torchvision.datasets.utils import calculate_md5, download_url

    file = root / remote.url.rpartition("/")[2]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torchvision sets none, and a silent server would hold the run for ever
    try:
        download_url(remote.url, root, md5=remote.md5)
    except RuntimeError:
        found = calculate_md5(file) if file.is_file() else "nothing"
        file.unlink(missing_ok=True)
        raise DataError(
            f"{remote.url}: what came has MD5 {found} instead of {remote.md5}; get {file.name} elsewhere and put it "
            f"into {root}"
        ) from None
    except OSError as error:  # urllib's errors are OSErrors
        file.unlink(missing_ok=True)
        raise DataError(
            f"{remote.url}: cannot be downloaded: {first_sentence(error)}; the address may be dead: get {file.name} "
            f"elsewhere and put it into {root}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    if file.name != remote.gives:
        unpack(file, root, remote.gives)
        file.unlink()


def unpack(archive: Path, root: Path, gives: str) -> None:
    """Unpacks a tar beside its target, then moves `gives` into `root`.

    Raises:
        DataError: the archive is damaged, has something that leads out of it, is too large, or lacks `gives`.
    """
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=".unpacking-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, members=_bounded(tar, archive), filter="data")
        if not (temporary / gives).exists():
            raise DataError(f"{archive}: does not hold {gives}")
        os.replace(temporary / gives, root / gives)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {first_sentence(error)}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _bounded(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """The members, as long as they are no more than a data set could have."""
    size = 0
    for number, member in enumerate(tar, 1):
        size += member.size
        if number > MOST_MEMBERS or size > MOST_BYTES:
            raise DataError(f"{archive}: unpacks to more than {MOST_MEMBERS:,} files or {MOST_BYTES >> 30} GiB")
        yield member
