"""CPU cores and memory that this process may use; imports no PyTorch."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Returns the cores that this process may use: in a container or under SLURM, fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Returns the bytes of main memory that can still be allocated without swapping.

    The limit of a container (cgroup v2) counts as well as the memory of the machine.
    """
    bounds = [_available_in_container()]
    if Path("/proc/meminfo").is_file():
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        bounds += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _available_in_container() -> int | None:
    """Returns what the control group leaves, page cache not counted; None without a limit."""
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no control group, or its limit is `max`
        return None
    return limit - used + int(statistics.get("inactive_file", 0))
