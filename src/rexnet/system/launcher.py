"""Detects the launcher of this process (torchrun, srun, Kubeflow v1, Lightning) from environment variables.

Variables that only describe the job of the calling shell do not count: a process that took them for its own would wait
for others that nobody started.
"""

import os
from typing import Literal

from rexnet.errors import ConfigError

Launcher = Literal["torchrun", "srun", "kubeflow", "lightning"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE")


def detect_launcher() -> Launcher | None:
    """Returns the program that started this process as one of several; None for a process started alone.

    For srun the number of tasks of the step counts: `SLURM_NTASKS` describes the job and stands in its shells as well.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if _number("SLURM_STEP_NUM_TASKS", 1) > 1:
        return "srun"
    if "KUBERNETES_PORT" in os.environ and "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1:
        return "kubeflow"
    return "lightning" if "LOCAL_RANK" in os.environ else None


def started_by_launcher() -> bool:
    """True if torchrun, srun or Kubeflow started this process; Lightning starts its processes by itself."""
    return detect_launcher() in ("torchrun", "srun", "kubeflow")


def local_and_world_size() -> tuple[int, int]:
    """Returns the processes that the launcher started on this node, and on all nodes; 1 and 1 without a launcher."""
    match detect_launcher():
        case "torchrun":
            return _number("LOCAL_WORLD_SIZE", 1), _number("WORLD_SIZE", 1)
        case "srun":
            tasks = _number("SLURM_STEP_NUM_TASKS", 1)
            return _number("SLURM_NTASKS_PER_NODE", tasks), tasks
        case "kubeflow":  # one process per pod
            return 1, _number("WORLD_SIZE", 1)
        case _:
            return 1, 1


def is_rank_zero() -> bool:
    """True for the only process, or the first of all nodes, which alone logs, asks and writes.

    Lightning gives its processes LOCAL_RANK and NODE_RANK before they have a rank among all.
    """
    return not any(_number(name, 0) for name in RANKS)


def check_launch_environment() -> None:
    """Rejects stale rank variables: a rank above 0 would wait for a run folder that nobody creates.

    Raises:
        ConfigError: a rank or a number of processes is no number, or no launcher gave this process its rank.
    """
    for name in (*RANKS, *COUNTS):
        if not os.environ.get(name, "0").isdecimal():
            raise ConfigError(f"{name}={os.environ[name]} in the environment should be a whole number; unset it")
    for name in ("RANK", "SLURM_PROCID"):
        if _number(name, 0) > 0 and not started_by_launcher():
            raise ConfigError(
                f"{name}={os.environ[name]} in the environment makes this process one of several, but no launcher "
                "(torchrun, srun, Kubeflow) started it as such; unset it"
            )


def check_process_count(devices: int, nodes: int) -> None:
    """Raises a ConfigError unless the launcher started one process for each device."""
    if not started_by_launcher():
        return
    name, (local, world) = detect_launcher(), local_and_world_size()
    if name == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:  # Lightning needs it
        raise ConfigError(f"srun started {world} processes by --ntasks; give --ntasks-per-node and --nodes instead")
    if (local, world) != (devices, devices * nodes):
        raise ConfigError(
            f"trainer.devices, trainer.num_nodes: {devices} and {nodes} do not match {name}'s {local} processes a "
            f"node, {world} in all"
        )


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
