"""Measures the memory of an index of ImageNet's size, and how much loader processes add to it.

Command   python benchmarks/index_memory.py
"""

import argparse
import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index, label_source
from rexnet.data.sources.shared_memory import Names, share
from rexnet.data.sources.tar import TarSource

CLASSES = 1000


def made_up_index(images: int) -> Index:
    """Returns an index with names, labels and spans like those of ImageNet's training images in a tar."""
    labels = np.arange(images) * CLASSES // images
    names = (f"n{label:08d}/n{label:08d}_{number}.JPEG" for number, label in enumerate(labels.tolist()))
    spans = np.stack((np.arange(images) * 110_000, np.full(images, 110_000)), axis=1)
    here = Path(__file__)  # stands in for the tar
    state = (here.stat().st_size, here.stat().st_mtime_ns)
    source = TarSource(here, Names.pack(names), share(spans), state)
    return label_source(source, labels, [f"n{n:08d}" for n in range(CLASSES)])


def own_mb() -> float:
    """Returns the anonymous memory of this process in MB, which shared arrays do not count towards."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def visit(index: Index, results: "object") -> None:
    """Reads a whole index, as a loader process does, and reports the memory that it took."""
    before = own_mb()
    total = sum(len(index.paths[position]) + int(index.labels[position]) for position in range(0, len(index), 7))
    total += int(index.source.spans.sum())
    results.put((before, own_mb() - before, total))


def main() -> None:
    """Prints one line per start method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    start, before = time.perf_counter(), own_mb()
    index = made_up_index(options.images)
    arrays = (index.paths.text, index.paths.ends, index.labels, index.source.spans)
    print(f"{options.images:,} images: {sum(a.nbytes for a in arrays) / 1e6:.0f} MB in arrays, ", end="")
    print(f"built in {time.perf_counter() - start:.1f} s, pid {os.getpid()}, own memory +{own_mb() - before:.0f} MB")
    for method in ("fork", "forkserver", "spawn"):
        context = get_context(method)
        results = context.Queue()
        processes = [context.Process(target=visit, args=(index, results)) for _ in range(options.workers)]
        for process in processes:
            process.start()
        found = [results.get() for _ in processes]
        for process in processes:
            process.join()
        assert len({total for _, _, total in found}) == 1
        print(
            f"{method:<10} {options.workers} processes, own memory at start {max(f[0] for f in found):.0f} MB, ", end=""
        )
        print(f"after reading the whole index +{max(f[1] for f in found):.1f} MB")


if __name__ == "__main__":
    main()
