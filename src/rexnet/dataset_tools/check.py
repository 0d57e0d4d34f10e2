"""Reads a whole data set once and writes a manifest of all images: `rexnet data check`."""

import hashlib
import os
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.by_name import load_index, splits_of
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.manifest import Entry, manifest_path, paths_of, read_manifest, write_manifest
from rexnet.data.sources.decode import decode
from rexnet.dataset_tools.check_report import IMAGE, Findings, describe_findings
from rexnet.errors import DataError
from rexnet.system.atomic_files import write_file
from rexnet.system.resources import count_cores
from rexnet.system.terminal import progress_bar

BATCH = 32  # images in one job of a thread


class Examined(NamedTuple):
    """An image file, read and decoded once; the first four fields are an `IMAGE` of the report."""

    size: int
    shape: tuple[int, int]
    sha256: np.ndarray
    pixels: np.ndarray
    fault: str


def check(config: SourceConfig, allow_leak: bool = False) -> Findings:
    """Decodes every image of every split on all cores, writes the manifest, and writes and prints a report.

    The report is next to the manifest, as `...-report.txt`. If there is a manifest already, images whose bytes differ
    from it are faults as well, and it is not changed. With `allow_leak` an image may be in several splits.

    Raises:
        DataError: the data set has faults or cannot be loaded.
    """
    config = config.model_copy(update={"on_bad_image": "error", "train_on": "train", "crop_to_box": False})
    path = manifest_path(config)
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not os.access(folder, os.W_OK):  # said before the work, not after it
        raise DataError(f"{path}: the manifest cannot be written there; choose another place with --manifest")
    findings = examine_all({split: load_index(config, split) for split in splits_of(config)})
    known = {}
    if path.is_file():
        with read_manifest(path) as earlier:
            known = {entry.path: entry.sha256 for entry in earlier}
    changed = [new.path for new in entries_of(findings, config.root) if known.get(new.path, new.sha256) != new.sha256]
    if not changed:
        write_manifest(path, entries_of(findings, config.root))
    report = path.with_name(f"{path.stem}-report.txt")
    text = describe_findings(findings, changed if known else None)
    write_file(report, text)
    kept = " (not changed, because images differ from it)" if changed else ""
    print(f"{text}\nmanifest  {path}{kept}\nreport    {report}")
    broken, leaks = list(findings.faults), [] if allow_leak else findings.leaks()
    faults = {
        f"images with other bytes than in {path.name}: {len(changed):,} (delete it if that is intended)": changed,
        f"broken images: {len(broken):,} (repair them, or train with data.on_bad_image=skip_listed)": broken,
        f"images in several splits: {len(leaks):,} (remove them from one, or use --allow-leak)": leaks,
    }
    if any(faults.values()):
        raise DataError(f"{config.root}: {'; '.join(text for text, found in faults.items() if found)}")
    return findings


def examine(index: Index, position: int) -> Examined:
    """Reads, hashes and decodes one image."""
    size, digest = 0, bytes(32)
    try:
        content = index.read(position)
        size, digest = len(content), hashlib.sha256(content).digest()
        image = decode(content, index.name(position))
    except DataError as error:
        return Examined(size, (0, 0), np.frombuffer(digest, "u1"), np.zeros(2, "u8"), str(error))
    shape = (image.shape[0], image.shape[1])
    pixels = hashlib.sha256(np.array(shape).tobytes())
    pixels.update(image.data)
    return Examined(size, shape, np.frombuffer(digest, "u1"), np.frombuffer(pixels.digest()[:16], "u8"), "")


def examine_all(indexes: dict[Split, Index]) -> Findings:
    """Examines all images in threads: reading, hashing and decoding release Python's global lock."""
    findings = Findings(indexes, np.zeros(sum(map(len, indexes.values())), IMAGE), {})

    def work(number: int) -> Examined:
        split, position = findings.locate(number)
        return examine(indexes[split], position)

    pool = ThreadPool(count_cores())
    try:
        with progress_bar(len(findings.images), " images") as bar:
            for number, examined in enumerate(pool.imap(work, range(len(findings.images)), BATCH)):
                findings.images[number] = examined[:4]
                if examined.fault:
                    findings.faults[number] = examined.fault
                bar.update(1)
    finally:
        pool.terminate()
        pool.join()  # Python's exit would abort threads inside OpenCV
    return findings


def entries_of(findings: Findings, root: Path) -> Iterator[Entry]:
    """Yields the entries of the manifest, split by split."""
    number = 0
    for split, index in findings.indexes.items():
        for label, path in zip(index.labels.tolist(), paths_of(index, root), strict=True):
            size, (height, width), sha256, _ = findings.images[number].tolist()
            digest = bytes(sha256).hex() if any(sha256) else ""
            fault = findings.faults.get(number, "")
            yield Entry(split, path, size, digest, width, height, index.class_names[label], fault)
            number += 1
