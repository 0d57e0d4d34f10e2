"""Loader processes: their signals, their memory, and clear errors if one dies or hangs."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from rexnet.data.sources.image_files import size_text
from rexnet.errors import DataError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - on Linux
PREFETCHED = 2  # batches that each loader process keeps ready, PyTorch's default
MAX_RECORDED = 256
DIED = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (?:is killed by signal: (.*?)\.|exited)")


class WorkerProgress:
    """The image that each loader process is reading, in shared memory."""

    def __init__(self) -> None:
        self.positions = multiprocessing.RawArray("q", [-1] * MAX_RECORDED)
        self.processes = multiprocessing.RawArray("q", [0] * MAX_RECORDED)

    def record(self, position: int) -> None:
        """Records in a loader process that it is about to read the image at `position`."""
        worker = get_worker_info()
        if worker is not None and worker.id < MAX_RECORDED:
            self.positions[worker.id] = position
            self.processes[worker.id] = os.getpid()

    def current(self) -> dict[int, int]:
        """Returns the latest position of each process ID."""
        return {pid: self.positions[worker] for worker, pid in enumerate(self.processes) if pid}


def start_worker(worker: int) -> None:
    """Ignores signals in a loader process: terminals and SLURM send them to all processes of a run that stops."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def require_shared_memory(workers: int, batch_bytes: int) -> None:
    """Requires room in /dev/shm for prefetched batches: if it is full, loader processes die of a bus error."""
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return
    needed, free = workers * PREFETCHED * batch_bytes, shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        raise DataError(
            f"{SHARED_MEMORY}: has {size_text(free)} free, but {workers} loader processes keep {PREFETCHED} batches "
            f"of {size_text(batch_bytes)} each there; give the container --shm-size={2 * needed / 1e6:.0f}m or lower "
            f"data.num_workers"
        )


@contextlib.contextmanager
def explained_faults(datasets: Sequence[Any], timeout: float) -> Iterator[None]:
    """Turns PyTorch's errors about loader processes into messages that name image, process and remedy.

    Kills the loader processes after any error.

    Args:
        datasets: the data sets being loaded, each with an `index` and `progress`.
        timeout: seconds after which PyTorch gives up waiting for a batch.
    """
    try:
        yield
    except BaseException as error:
        text = f"{error.__context__ or ''} {error}"  # the signal is in the first of two errors
        is_known = isinstance(error, RuntimeError) and ("DataLoader" in text or "shared memory" in text)
        message = _explain(text, datasets, timeout) if is_known else None
        kill_workers()
        if message is None:
            raise
        raise DataError(message) from None


def kill_workers() -> None:
    """Kills the loader processes of this process, which ignore signals and would delay its exit."""
    is_main = threading.current_thread() is threading.main_thread()  # only there PyTorch installs its handler
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main else None  # it would raise an error
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join()
    if is_main:
        signal.signal(signal.SIGCHLD, before)


def _explain(text: str, datasets: Sequence[Any], timeout: float) -> str | None:
    at = {pid: one.index.name(position) for one in datasets for pid, position in one.progress.current().items()}
    if "timed out" in text:
        alive = {process.pid for process in multiprocessing.active_children()}
        where = "; ".join(f"process {pid} is at {path}" for pid, path in at.items() if pid in alive)
        return (
            f"no batch came from the loader processes within {timeout:g} s ({where}); check whether the disk responds, "
            f"or raise data.worker_timeout"
        )
    if "shared memory" in text or "Bus error" in text:
        return (
            f"{SHARED_MEMORY} is full, through which loader processes pass batches; give the container a larger "
            f"--shm-size or lower data.num_workers"
        )
    if (died := DIED.search(text)) is None:
        return None
    pids = [int(pid) for pid in died[1].split(",")]
    where = ", ".join(f"{pid} (last at {at[pid]})" if pid in at else str(pid) for pid in pids)
    how = f"was killed by signal {died[2]}" if died[2] else "exited without a message"
    return (
        f"loader process {where} {how}; if the machine ran out of memory (see dmesg), lower data.num_workers; if it is "
        f"always the same file, check that file"
    )
