"""Weights from the network: from the Hugging Face hub by name, or from any address with a checksum."""

import logging
import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from rexnet.errors import CheckpointError, first_sentence
from rexnet.system.atomic_files import cache_folder, sha256_of

log = logging.getLogger(__name__)

ATTEMPTS = 5
TIMEOUT_S = 30
CHUNK = 1 << 20
ADVICE = "where there is no network, fetch the file elsewhere and give its path"


def fetch_weights(source: str, model_name: str) -> Path:
    """The local copy of weights, fetched if it is not there yet.

    Args:
        source: `https://…#sha256=HEX`, or the tag of weights that timm keeps on the Hugging Face hub (`nav_in1k`).
        model_name: the network that a tag is looked up for.

    Raises:
        CheckpointError: neither form, no such file, no network, or a file other than promised.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        return _fetch_url(source)
    name, _, tag = source.removeprefix("timm/").rpartition(".")  # also NAME.TAG, as on the hub
    if re.fullmatch(r"[\w-]+", tag) and re.fullmatch(r"[\w-]*", name) and not tag.startswith("pth"):
        return _fetch_from_hub(tag, name or model_name)
    raise CheckpointError(f"{source}: no such weight file")


def _fetch_from_hub(tag: str, model_name: str) -> Path:
    """`timm/NAME.TAG` through the hub's own client, which caches, resumes and verifies."""
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").propagate = False  # its own handler says it already
    repository = f"timm/{model_name.removeprefix('timm/').partition('.')[0]}.{tag}"
    try:
        return Path(hf_hub_download(repository, "model.safetensors", endpoint=os.environ.get("HF_ENDPOINT")))
    except Exception as error:  # the hub, its cache and its transport raise errors of many libraries
        raise CheckpointError(
            f"{tag}: neither a file here nor weights that could be fetched from the hub as {repository}: "
            f"{first_sentence(error)}; {ADVICE}"
        ) from None


def _fetch_url(source: str) -> Path:
    """The file at an address, in the cache under a name that holds its checksum."""
    from filelock import FileLock

    url, _, fragment = source.partition("#")
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    try:
        scheme, name = urlsplit(url).scheme, PurePosixPath(urlsplit(url).path)
    except ValueError as error:
        raise CheckpointError(f"{url}: is not an address: {error}") from None
    if scheme not in ("https", "http") or match is None:
        raise CheckpointError(
            f"{source}: an address of weights should be https://HOST/FILE#sha256=CHECKSUM with 64 hexadecimal digits"
        )
    checksum = match[1].lower()
    folder = cache_folder() / "weights"
    target = folder / f"{name.stem}-{checksum[:16]}{name.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):  # several processes of one run ask at once
            if not target.is_file() or sha256_of(target) != checksum:
                _download(url, checksum, target)
    except OSError as error:
        raise CheckpointError(f"{url}: cannot be kept as {target}: {error.strerror or error}") from None
    return target


def _download(url: str, checksum: str, target: Path) -> None:
    """Downloads beside `target`, going on where an earlier attempt stopped, and renames what has the checksum."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise CheckpointError(f"{url}: is not in {target.parent}, and HF_HUB_OFFLINE forbids to fetch it; {ADVICE}")
    part = target.with_name(f"{target.name}.part")
    for _ in range(ATTEMPTS):
        if _download_rest(url, part):
            break
    else:
        kept = part.stat().st_size if part.is_file() else 0
        raise CheckpointError(
            f"{url}: the connection was cut {ATTEMPTS} times; {kept:,} bytes are kept, and the same command goes on "
            f"from there"
        )
    found = sha256_of(part)
    if found != checksum:
        part.unlink()
        raise CheckpointError(f"{url}: has the sha256 {found}, not the promised {checksum}; it was deleted")
    part.replace(target)


def _download_rest(url: str, part: Path) -> bool:
    """Appends what `part` lacks and says whether it is complete."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - http(s), checked above
            resumed = start > 0 and response.status == 206
            with part.open("ab" if resumed else "wb") as file:
                return _copy(response, file, start if resumed else 0, url)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return True
        raise CheckpointError(f"{url}: the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise CheckpointError(f"{url}: cannot be reached: {error.reason}; {ADVICE}") from None
    except (InvalidURL, ValueError) as error:
        raise CheckpointError(f"{url}: is not an address: {error}") from None
    except (HTTPException, TimeoutError, ConnectionError):
        return False


def _copy(response: HTTPResponse, file: BinaryIO, start: int, url: str) -> bool:
    """Copies a response with a progress bar and says whether all of it came."""
    from rexnet.system.terminal import progress_bar

    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else None
    name = PurePosixPath(urlsplit(url).path).name
    with progress_bar(total, "B", unit_scale=True, initial=start, desc=name) as bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    return total is None or file.tell() == total
