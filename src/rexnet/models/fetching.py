"""Downloads weights: from the Hugging Face hub by their tag, or from any address with a checksum."""

import logging
import os
import re
import socket
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import getproxies

from filelock import FileLock
from torch.hub import download_url_to_file

from rexnet.errors import CheckpointError, first_sentence, nearest
from rexnet.system.atomic_files import cache_folder, sha256_of
from rexnet.system.terminal import is_interactive

TIMEOUT_S = 30
CONNECT_S = 5
ADVICE = "where there is no network, fetch the file elsewhere and give its path"


def fetch_weights(source: str, model_name: str) -> Path:
    """Returns the local copy of weights and downloads it if necessary.

    The source is `https://…#sha256=HEX`, or the tag of weights that timm keeps on the Hugging Face hub (`nav_in1k`).

    Raises:
        CheckpointError: neither form, no such file, no network, or a file with another checksum.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        return _fetch_url(source)
    name, _, tag = source.removeprefix("timm/").rpartition(".")  # also NAME.TAG, as on the hub
    if re.fullmatch(r"[\w-]+", tag) and re.fullmatch(r"[\w-]*", name) and not tag.startswith("pth"):
        return _fetch_from_hub(source, tag, name or model_name)
    raise CheckpointError(f"{source}: no such weight file")


def _fetch_from_hub(source: str, tag: str, model_name: str) -> Path:
    """Returns the weights of `timm/NAME.TAG`; the hub's client caches and verifies them."""
    from huggingface_hub import constants, hf_hub_download

    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    name = model_name.removeprefix("timm/").partition(".")[0]
    repository = f"timm/{name}.{tag}"
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    cached_only = not _is_reachable(endpoint)  # the client would try again for half a minute
    try:
        return Path(hf_hub_download(repository, "model.safetensors", endpoint=endpoint, local_files_only=cached_only))
    except Exception as error:  # the hub, its cache and its transport raise errors of many libraries
        hint, reason = "", f"{endpoint} cannot be reached"
        if not cached_only:
            import timm  # takes seconds

            tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
            hint, reason = "" if tag in tags else nearest(tag, tags), first_sentence(error)
        raise CheckpointError(
            f"{source}: neither a file here nor weights that could be fetched from the hub as {repository}{hint}: "
            f"{reason}; {ADVICE}"
        ) from None


def _is_reachable(address: str) -> bool:
    """Returns True if a server accepts connections, or if there is a proxy to ask."""
    place = urlsplit(address)
    try:
        if not getproxies():
            socket.create_connection((place.hostname, place.port or 443), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


def _fetch_url(source: str) -> Path:
    """Returns the file at an address, cached under a name that holds its checksum."""
    from huggingface_hub import constants

    url, _, fragment = source.partition("#")
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if match is None or not re.match(r"https?://[\w.-]+(:\d+)?/", url):
        raise CheckpointError(
            f"{source}: an address of weights should be https://HOST/FILE#sha256=CHECKSUM with 64 hexadecimal digits"
        )
    checksum, name = match[1].lower(), PurePosixPath(url.partition("?")[0])
    target = cache_folder() / "weights" / f"{name.stem}-{checksum[:16]}{name.suffix}"
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # PyTorch sets none, and would wait for ever
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):  # the processes of a run ask at the same time
            if not target.is_file() or sha256_of(target) != checksum:
                if constants.HF_HUB_OFFLINE:
                    raise OSError(f"it is not in {target.parent}, and HF_HUB_OFFLINE forbids a download")
                download_url_to_file(url, str(target), hash_prefix=checksum, progress=is_interactive())
    except (OSError, RuntimeError, ValueError, HTTPException) as error:  # RuntimeError: another checksum
        raise CheckpointError(f"{url}: cannot be fetched to {target}: {first_sentence(error)}; {ADVICE}") from None
    finally:
        socket.setdefaulttimeout(timeout)
    return target
