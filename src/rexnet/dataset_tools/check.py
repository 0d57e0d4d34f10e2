"""Reads a whole data set once and writes down what is there: `rexnet data check`."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.by_name import load_index, splits_of
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.manifest import Entry, manifest_path, paths_of, read_manifest, write_manifest
from rexnet.data.sources.decode import decode
from rexnet.dataset_tools.check_report import PIXELS, Facts, describe_facts
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write
from rexnet.system.resources import count_cores
from rexnet.system.terminal import progress_bar

AT_ONCE = 32  # images in one job of a thread


class Seen(NamedTuple):
    """What one look at an image file gave."""

    size: int
    sha256: bytes
    pixels: bytes
    """Hash of shape and pixels; empty where there is a fault."""
    shape: tuple[int, int]
    """Height and width."""
    fault: str


def check(config: SourceConfig, allow_leak: bool = False) -> Facts:
    """Reads and decodes every image of every split with all cores; writes the manifest, writes and prints a report.

    The report lies beside the manifest, as `...-report.txt`. Where there is a manifest already, images whose bytes
    differ from it are faults too, and it is left as it is.

    Args:
        config: the data set.
        allow_leak: whether the same image may lie in several splits.

    Raises:
        DataError: the data set has faults, or is not what it should be as a whole.
    """
    config = config.model_copy(update={"on_bad_image": "error", "train_on": "train", "crop_to_box": False})
    path = manifest_path(config)
    _require_folder(path)
    indexes = {split: load_index(config, split) for split in splits_of(config)}
    facts = look_at_all(indexes)
    changed = find_changed(facts, config, path) if path.is_file() else []
    if not changed:
        write_manifest(path, entries(facts, config.root))
    report = path.with_name(f"{path.stem}-report.txt")
    text = describe_facts(facts, changed)
    with atomic_write(report) as temporary:
        temporary.write_text(text, encoding="utf-8")
    kept = " (left as it was, since images differ from it)" if changed else ""
    print(f"{text}\nmanifest  {path}{kept}\nreport    {report}")
    _raise_faults(facts, changed, allow_leak, config, path)
    return facts


def look_at(index: Index, position: int) -> Seen:
    """Reads, hashes and decodes one image."""
    size, digest = 0, b""
    try:
        content = index.read(position)
        size, digest = len(content), hashlib.sha256(content).digest()
        image = decode(content, index.name(position))
    except DataError as error:
        return Seen(size, digest, b"", (0, 0), str(error))
    shape = (image.shape[0], image.shape[1])
    pixels = hashlib.sha256(np.array(shape).tobytes())
    pixels.update(image.data)
    return Seen(size, digest, pixels.digest()[:PIXELS], shape, "")


def look_at_all(indexes: dict[Split, Index]) -> Facts:
    """What all images of a data set are; reading, hashing and decoding leave Python's lock to other threads."""
    facts = Facts.empty(indexes)
    jobs = [
        (index, range(start, min(start + AT_ONCE, len(index))))
        for index in indexes.values()
        for start in range(0, len(index), AT_ONCE)
    ]

    def look(job: tuple[Index, range]) -> list[Seen]:
        index, positions = job
        return [look_at(index, position) for position in positions]

    bar = progress_bar(len(facts.sizes), " images")
    with bar, _threads() as pool:
        number = 0
        for some in pool.imap(look, jobs):
            for seen in some:
                facts.sizes[number] = seen.size
                facts.shapes[number] = seen.shape
                facts.sha256[number] = list(seen.sha256) or 0
                facts.pixels[number] = list(seen.pixels) or 0
                if seen.fault:
                    facts.faults[number] = seen.fault
                number += 1
            bar.update(len(some))
    return facts


@contextmanager
def _threads() -> Iterator[ThreadPool]:
    """A thread for each core; they have ended afterwards, since Python's exit kills those inside OpenCV by an abort."""
    pool = ThreadPool(count_cores())
    try:
        yield pool
    finally:
        pool.terminate()
        pool.join()


def entries(facts: Facts, root: Path) -> Iterator[Entry]:
    """The lines of a manifest, split by split."""
    number = 0
    for split, index in facts.indexes.items():
        for position, path in enumerate(paths_of(index, root)):
            height, width = facts.shapes[number].tolist()
            digest = facts.sha256[number].tobytes().hex() if facts.sha256[number].any() else ""
            class_name = index.class_names[int(index.labels[position])]
            fault = facts.faults.get(number, "")
            yield Entry(split, path, int(facts.sizes[number]), digest, width, height, class_name, fault)
            number += 1


def find_changed(facts: Facts, config: SourceConfig, path: Path) -> list[str]:
    """The paths of images whose bytes are others than in the manifest at `path`."""
    with read_manifest(path) as old:
        before = {entry.path: entry.sha256 for entry in old}
    return [entry.path for entry in entries(facts, config.root) if before.get(entry.path, entry.sha256) != entry.sha256]


def _raise_faults(facts: Facts, changed: list[str], allow_leak: bool, config: SourceConfig, path: Path) -> None:
    leaks = [] if allow_leak else facts.leaks()
    parts = []
    if changed:
        parts.append(f"images with other bytes than in {path.name}: {len(changed):,} (delete it if that is meant)")
    if facts.faults:
        parts.append(f"broken images: {len(facts.faults):,} (mend them, or train with data.on_bad_image=skip_listed)")
    if leaks:
        parts.append(f"images in several splits: {len(leaks):,} (remove them from one, or give --allow-leak)")
    if parts:
        raise DataError(f"{config.root}: {'; '.join(parts)}")


def _require_folder(path: Path) -> None:
    """Says before the work, not after it, that the manifest has no place."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the manifest cannot be written there; name another place with --manifest")
