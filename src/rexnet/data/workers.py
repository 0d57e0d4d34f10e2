"""Loader processes: what they do with signals, and what to say when one of them dies, hangs or lacks memory."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from rexnet.data.sources.image_files import size_text
from rexnet.errors import DataError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
PREFETCHED = 2  # batches that each loader process keeps ready, PyTorch's default
MOST = 256
DIED = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (?:is killed by signal: (.*?)\.|exited)")


class WorkerProgress:
    """Which image each loader process is reading, in memory that all of them share."""

    def __init__(self) -> None:
        self.positions = multiprocessing.RawArray("q", [-1] * MOST)
        self.processes = multiprocessing.RawArray("q", [0] * MOST)

    def record(self, position: int) -> None:
        """Called in a loader process before it reads the image at `position` of the index."""
        worker = get_worker_info()
        if worker is not None and worker.id < MOST:
            self.positions[worker.id] = position
            self.processes[worker.id] = os.getpid()

    def current(self) -> dict[int, int]:
        """Position by process id."""
        return {pid: self.positions[worker] for worker, pid in enumerate(self.processes) if pid}


def start_worker(worker: int) -> None:
    """Keeps a loader process alive while its run stops: terminals and SLURM send signals to all processes."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def require_shared_memory(workers: int, batch_bytes: int) -> None:
    """Loader processes hand batches over in /dev/shm, and die of a bus error where it is full.

    Raises:
        DataError: it is too small for the batches that are kept ready.
    """
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
    """Turns what PyTorch says of a dead or hung loader process into words that name file, process and remedy.

    After any error the loader processes are ended.

    Args:
        datasets: those being loaded, each with `progress` (a `WorkerProgress`) and `path_of(position)`.
        timeout: seconds after which a batch is given up.

    Raises:
        DataError: a loader process died, hung or had too little shared memory.
    """
    try:
        yield
    except RuntimeError as error:
        text = f"{error.__context__ or ''} {error}"  # the signal stands in the first of two errors
        message = _explain(text, datasets, timeout) if "DataLoader" in text or "shared memory" in text else None
        end_workers()
        if message is None:
            raise
        raise DataError(message) from None
    except BaseException:
        end_workers()
        raise


def end_workers() -> None:
    """Ends the loader processes of this one, which at its exit would wait for them: they ignore what Python sends."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's would call their end an error
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join()
    signal.signal(signal.SIGCHLD, before)


def _explain(text: str, datasets: Sequence[Any], timeout: float) -> str | None:
    at = {
        pid: dataset.path_of(position) for dataset in datasets for pid, position in dataset.progress.current().items()
    }
    if "timed out" in text:
        alive = {process.pid for process in multiprocessing.active_children()}
        where = "; ".join(f"process {pid} is at {path}" for pid, path in at.items() if pid in alive)
        return (
            f"no batch came from the loader processes within {timeout:g} s ({where}); see whether the disk answers, "
            f"or raise data.worker_timeout"
        )
    if "shared memory" in text or "Bus error" in text:
        return (
            f"{SHARED_MEMORY} is full, where loader processes hand batches over; give the container a larger "
            f"--shm-size or lower data.num_workers"
        )
    died = DIED.search(text)
    if died is None:
        return None
    pids = [int(pid) for pid in died[1].split(",")]
    where = ", ".join(f"{pid} (last at {at[pid]})" if pid in at else str(pid) for pid in pids)
    how = f"was killed by signal {died[2]}" if died[2] else "ended without a word"
    return (
        f"loader process {where} {how}; if the machine ran out of memory (see dmesg), lower data.num_workers; if it is "
        f"always the same file, look at that file"
    )
