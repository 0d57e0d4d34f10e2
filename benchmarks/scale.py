"""Computes what a cluster needs to train ReXNet 1.0x on ImageNet from an object store, from constants measured here.

    python benchmarks/scale.py [--nodes 1 8 64] [--speed 5000] [--latency 20] [--ranks 512]

Measures the size and writing time of a checkpoint, the bytes of a catalog, and time and memory of an epoch's order, and
runs the sampler of every one of `--ranks` processes to see that they divide the images. The other constants are options
with the source of their defaults.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from rexnet import rexnet
from rexnet.data.remote.catalog import Catalog, save_catalog
from rexnet.data.sampling import TrainBatchSampler
from rexnet.data.sources.names import Names
from rexnet.data.workers import PREFETCHED
from rexnet.system.atomic_files import atomic_write

IMAGES = 1_281_167
GPUS = 8  # of a node
SHARD_BYTES = 128e6  # of `rexnet data pack`


def main() -> None:
    """Prints the constants, the needs of each number of nodes, and the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--speed", type=float, default=5000, help="images/s of a GPU, assumed (default: 5000)")
    parser.add_argument("--latency", type=float, default=20, help="of the store in ms, assumed (default: 20)")
    parser.add_argument("--batch", type=int, default=128, help="images of a GPU in a step (default: 128)")
    parser.add_argument(
        "--image-bytes",
        type=float,
        default=110e3,
        help="of an ImageNet file: mean of a sample of 250 (default: 110000)",
    )
    parser.add_argument("--core", type=float, default=800, help="images/s of a core, by remote.py (default: 800)")
    parser.add_argument("--restart", type=float, default=6, help="s from kill to next step, by remote.py (default: 6)")
    parser.add_argument("--ranks", type=int, default=512, help="processes to simulate (default: 512)")
    parser.add_argument("--order", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.order:
        print(*measure_order(options.order))
        return
    size, seconds = measure_checkpoint()
    index = catalog_bytes()
    print(f"checkpoint: {size / 1e6:.0f} MB in {seconds:.2f} s; catalog: {index:.0f} bytes an image")
    for images in (IMAGES, 10 * IMAGES):
        command = [sys.executable, __file__, "--order", str(images)]
        took, peak = subprocess.check_output(command, text=True).split()
        print(f"order of {images:,} images: {float(took):.0f} ms, {float(peak):.0f} MB a process at its peak")
    for nodes in options.nodes:
        print_needs(nodes, options, size, seconds)
    simulate(options.ranks)


def print_needs(nodes: int, options: argparse.Namespace, checkpoint: float, write_s: float) -> None:
    """Prints what so many nodes need."""
    speed = GPUS * options.speed  # of a node
    processes = -(-options.speed // options.core)  # of a loader
    shared = GPUS * processes * PREFETCHED * options.batch * 3 * 224**2
    print(f"\n{nodes} nodes of {GPUS} GPUs, {nodes * speed:,.0f} images/s, an epoch of {IMAGES / nodes / speed:.1f} s")
    print(f"  requests/s                  {speed:,.0f} a node, {nodes * speed:,.0f} in all")
    print(f"  in flight at {options.latency:g} ms          {speed * options.latency / 1e3:,.0f} a node")
    rate = speed * options.image_bytes * 8 / 1e9
    print(f"  bandwidth                   {rate:,.0f} Gbit/s a node, {nodes * rate:,.0f} in all")
    print(f"  loader processes            {processes:.0f} a GPU, {GPUS * processes:.0f} cores a node")
    print(f"  shared memory               {shared / 1e9:.1f} GB a node")
    print(f"  shards of 128 MB            {IMAGES * options.image_bytes / SHARD_BYTES:,.0f}, all read in each epoch")
    print(f"  checkpoint                  {checkpoint / 1e6:.0f} MB, {write_s:.2f} s, by one process of all")
    repeated = nodes * speed * options.restart
    print(f"  restart                     {options.restart:g} s, in which {repeated:,.0f} images would be trained")


def measure_checkpoint() -> tuple[float, float]:
    """Returns bytes and seconds of writing weights, EMA and momentum of ReXNet 1.0x durably."""
    weights = rexnet(1.0).state_dict()
    state = {name: {key: value.clone() for key, value in weights.items()} for name in ("model", "ema", "momentum")}
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "last.ckpt", time.perf_counter()
        with atomic_write(path) as temporary:
            torch.save(state, temporary)
        return path.stat().st_size, time.perf_counter() - start


def catalog_bytes() -> float:
    """Returns the bytes of a catalog of shards for each image."""
    count, shards = 100_000, 100
    names = Names.pack(f"train-{number // 1000:05d}.tar/{number:08d}.jpg" for number in range(count))
    keys, tags = (
        Names.pack(f"{text}-{number:05d}" for number in range(shards)) for text in ("train", "0123456789abcdef")
    )
    zeros = np.zeros(count, np.int64)
    with tempfile.TemporaryDirectory() as folder:
        save_catalog(Path(folder), Catalog(names, keys, tags, zeros, np.zeros((count, 2), np.int64), zeros))
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / count


def measure_order(images: int) -> tuple[float, float]:
    """Returns the milliseconds until an epoch's first batch, and by how many MB the process grew meanwhile."""
    list(TrainBatchSampler(1000, 1000, seed=0))
    before, start = peak_mb(), time.perf_counter()
    next(iter(TrainBatchSampler(images, 1024, seed=0)))
    took = time.perf_counter() - start
    return took * 1e3, peak_mb() - before


def peak_mb() -> float:
    """Returns the most memory that this process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # Linux
    assert found is not None
    return int(found[1]) / 1024


def simulate(ranks: int) -> None:
    """Runs an epoch of the samplers of all ranks and counts the images."""
    batch, seen, start = ranks * 32, np.zeros(IMAGES, np.int64), time.perf_counter()
    for rank in range(ranks):
        for keys in TrainBatchSampler(IMAGES, batch, seed=0, rank=rank, world_size=ranks):
            seen[[key.position for key in keys]] += 1
    times = np.bincount(seen)
    print(
        f"\n{ranks} processes, batches of {batch}: {times[1]:,} images once, {times[2:].sum()} more than once, ", end=""
    )
    print(f"{times[0]:,} in the dropped last batch ({IMAGES % batch:,} expected); {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
