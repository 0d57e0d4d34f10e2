"""Measures training data from a web server against the same tar on the local disk, for several latencies.

    python benchmarks/remote.py FOLDER [--latencies 0 20 50] [--in-flight 1 8 64] [--workers 2] [--seconds 4]

FOLDER holds JPEG files at any depth; a tar of `--images` of them, repeated if they are fewer, is served by
`range_server.py` on this machine. Prints

- images/s of the loader with the recipe of ImageNet, and its ratio to the local tar. The sides take turns, and the best
  of `--rounds` counts. The server shares the cores with the loader, and its CPU time is printed.
- requests and bytes of an epoch, by one process, by two, and from a full cache;
- the time from SIGKILL of a training run to its next step, on the local tar and at 20 ms.

Needs the extra `remote`; takes under four minutes on two cores.
"""

import argparse
import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from torch.utils.data import DataLoader

from rexnet.config import Config, load_config
from rexnet.data.cache.cached_datasets import build_train_dataset
from rexnet.data.cache.filling import CacheStore
from rexnet.data.dataset import Sample
from rexnet.data.datasets import load_index
from rexnet.data.loaders import build_loader, build_train_sampler, resolve_loader

BATCH = 64
CLASSES = 10
STEP_TIMES = """
import sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook
log = open(sys.argv.pop(1), "a", buffering=1)
register_optimizer_step_post_hook(lambda *_: log.write(f"{time.time()}\\n"))
from rexnet.cli import main
sys.exit(main())
"""


def main() -> None:
    """Prints all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=6144, help="rounded down to a multiple of 128 (default: 6144)")
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 20, 50], help="in ms (default: 0 20 50)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement, at most an epoch")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "served").mkdir()
        tar = write_tar(options.folder, folder / "served/images.tar", options.images // (2 * BATCH) * 2 * BATCH)
        few = write_tar(options.folder, folder / "served/few.tar", 4 * BATCH)
        url, log, server = stack.enter_context(serving(tar.parent, folder / "requests"))
        print(f"{options.workers} loader processes, batches of {BATCH}, {os.cpu_count()} cores")
        compare_speeds(tar, url, server, options)
        count_requests(url, log, options.workers, folder)
        kill_runs({"local tar": str(few), "20 ms": f"{url}/20/{few.name}"}, folder)


def write_tar(source: Path, path: Path, count: int) -> Path:
    """Writes images into class folders in a tar, with a few for validation."""
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    contents = [file.read_bytes() for file in files[:count]]
    with tarfile.open(path, "w") as tar:
        for split, number in (("train", count), ("val", 2 * CLASSES)):
            for position, content in zip(range(number), itertools.cycle(contents), strict=False):
                entry = tarfile.TarInfo(f"{split}/class{position % CLASSES}/{position:06d}.jpg")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    load_index(configure(path).data, "train")  # writes the index next to it
    return path


@contextlib.contextmanager
def serving(folder: Path, log: Path) -> Iterator[tuple[str, Path, int]]:
    """Yields the address of the server, the log of its requests, and its process ID."""
    command = [sys.executable, str(Path(__file__).with_name("range_server.py")), str(folder), str(log)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}", log, server.pid
    finally:
        server.kill()
        server.wait()


def configure(root: object, *changes: str) -> Config:
    """Returns ImageNet's recipe on the images at `root`."""
    return load_config("imagenet", ["data.dataset=folder", f"data.root={root}", f"data.batch_size={BATCH}", *changes])


def build(config: Config, rank: int = 0, world_size: int = 1) -> DataLoader[Sample]:
    """Returns the training loader of a process."""
    index, settings = load_index(config.data, "train"), resolve_loader(config.data, config.trainer)
    dataset = build_train_dataset(index, config.data, config.augmentation, config.training_sizes, config.seed)
    cache = CacheStore([dataset], config.data, config.trainer)
    cache.fill(settings)
    cache.open()
    return build_loader(dataset, build_train_sampler(config, index, rank, world_size), settings)


def measure(loader: DataLoader[Sample], seconds: float, server: int) -> tuple[float, float]:
    """Returns images/s and the server's share of a core from the first batch on."""
    count, start, used = 0, 0.0, 0.0
    for batch in loader:
        if not start:
            start, used = time.perf_counter(), cpu_seconds(server)
            continue
        count += len(batch.labels)
        if time.perf_counter() - start > seconds:
            break
    elapsed = time.perf_counter() - start
    return count / elapsed, (cpu_seconds(server) - used) / elapsed


def compare_speeds(tar: Path, url: str, server: int, options: argparse.Namespace) -> None:
    """Prints images/s of each latency and number of requests in flight."""
    workers = f"data.num_workers={options.workers}"
    print("\nlatency  in flight  images/s  ratio to local  server's share of a core")
    for latency in options.latencies:
        sides = {
            flight: build(configure(f"{url}/{latency}/{tar.name}", workers, f"data.fetch.in_flight={flight}"))
            for flight in options.in_flight
        }
        local, best = (
            build(configure(tar, workers, "data.start_method=forkserver")),
            dict.fromkeys([0, *sides], (0.0, 0.0)),
        )
        for _ in range(options.rounds):
            for flight, loader in {0: local, **sides}.items():
                best[flight] = max(best[flight], measure(loader, options.seconds, server))
        print(f"  local             {best[0][0]:10.0f}")
        for flight in sides:
            speed, share = best[flight]
            print(f"{latency:4} ms  {flight:9}  {speed:8.0f}  {speed / best[0][0]:14.2f}  {share:.2f}", flush=True)


def cpu_seconds(process: int) -> float:
    """Returns the CPU time of a process."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def count_requests(url: str, log: Path, workers: int, folder: Path) -> None:
    """Prints the requests of an epoch by one process, by two, to fill a cache, and from the full cache."""
    root, cached = f"{url}/0/images.tar", (f"data.cache_folder={folder}", "data.cache=disk")
    one = [build(configure(root, f"data.num_workers={workers}"))]
    two = [build(configure(root, "data.num_workers=1"), rank, 2) for rank in range(2)]
    index = load_index(configure(root).data, "train")
    print(f"\n{len(index)} images of {sum(len(index.read(number)) for number in range(len(index))):,} bytes")

    def report(text: str, loaders: list[DataLoader[Sample]]) -> None:
        images = sum(len(batch.labels) for loader in loaders for batch in loader)
        gets = [line.split()[1:] for line in log.read_text().splitlines() if line.startswith("images.tar ")]
        sent, again = sum(int(last) - int(first) + 1 for first, last in gets), len(gets) - len(set(map(tuple, gets)))
        print(f"{text:34} {images} images, {len(gets)} GETs, {sent:,} bytes, {again} ranges more than once", flush=True)
        log.write_text("")

    log.write_text("")
    report("an epoch of one process:", one)
    report("an epoch of two processes:", two)
    filled = build(configure(root, f"data.num_workers={workers}", *cached))
    report("an epoch, and filling the cache:", [filled])
    report("an epoch from the full cache:", [filled])


def kill_runs(roots: dict[str, str], folder: Path) -> None:
    """Prints the time from SIGKILL of a run, after its first checkpoint, to the next step."""
    print("\nfrom SIGKILL to the next step, of ReXNet 1.0x at 64 px:")
    for name, root in roots.items():
        runs, log = folder / "runs" / name.replace(" ", ""), folder / f"steps {name}"
        settings = ["data.dataset=folder", f"data.root={root}", "data.batch_size=64", "data.image_size=64"]
        settings += [
            "data.num_workers=2",
            "schedule.epochs=99",
            "schedule.warmup_epochs=0",
            f"trainer.runs_dir={runs}",
            "trainer.run_name=killed",
        ]
        settings += ["trainer.accelerator=cpu", "trainer.val_every_epochs=1"]
        command = [sys.executable, "-c", STEP_TIMES, str(log), "train", "--config", "imagenet", *settings]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        checkpoint = runs / "killed" / "checkpoints" / "last.ckpt"
        wait_for(checkpoint.exists, first)
        killed = time.time()
        os.killpg(first.pid, signal.SIGKILL)  # and its loader processes
        first.wait()
        second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda log=log, killed=killed: steps_since(log, killed), second)
        print(f"{name:10} {steps_since(log, killed)[0] - killed:5.1f} s", flush=True)
        second.send_signal(signal.SIGTERM)
        second.wait()


def steps_since(log: Path, moment: float) -> list[float]:
    """Returns the times of the steps after a moment."""
    return [float(line) for line in log.read_text().splitlines() if line and float(line) > moment]


def wait_for(condition, process: subprocess.Popen) -> None:
    """Waits until a condition is true; the process must not end before."""
    while not condition():
        assert process.poll() is None, f"the run ended with code {process.returncode}"
        time.sleep(0.1)


if __name__ == "__main__":
    main()
