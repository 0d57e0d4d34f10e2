"""How many cores there are to compute on; apart from `hardware`, which imports PyTorch."""

import os


def count_cores() -> int:
    """Cores that this process may use, which in a container or under SLURM are not all that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
