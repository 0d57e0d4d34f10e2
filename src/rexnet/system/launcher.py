"""Detects the launcher of this process (torchrun, srun, Kubeflow v1, Ray, Lightning) from environment variables.

Variables that only describe the job of the calling shell are ignored: a process that took them for its own would wait
for others that nobody started.
"""

import logging
import os
import re
from pathlib import Path
from typing import Literal

from rexnet.errors import ConfigError

log = logging.getLogger(__name__)

Launcher = Literal["torchrun", "srun", "kubeflow", "ray", "lightning"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE")
RAY_WORKERS = "REXNET_RAY_WORKERS"  # set by us, since Ray itself sets no variable


def detect_launcher() -> Launcher | None:
    """Returns the program that started this process as one of several; None for a process started alone.

    For srun, the number of tasks of the step counts: `SLURM_NTASKS` describes the job and is set in its shells as well.
    """
    if RAY_WORKERS in os.environ:
        return "ray"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if _number("SLURM_STEP_NUM_TASKS", 1) > 1:
        return "srun"
    if "KUBERNETES_PORT" in os.environ and "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1:
        return "kubeflow"
    return "lightning" if "LOCAL_RANK" in os.environ else None


def started_by_launcher() -> bool:
    """True if torchrun, srun, Kubeflow or Ray started this process; Lightning starts its processes by itself."""
    return detect_launcher() in ("torchrun", "srun", "kubeflow", "ray")


def mark_as_ray_worker(least: int, most: int) -> None:
    """Marks this process as one of `least` to `most` that Ray started."""
    os.environ[RAY_WORKERS] = f"{least}:{most}"


def local_and_world_size() -> tuple[int, int]:
    """Returns the number of processes on this node and on all nodes; 1 and 1 without a launcher.

    Raises:
        ConfigError: the nodes have different numbers of processes, or srun does not tell how many.
    """
    local, world = 1, 1
    match detect_launcher():
        case "torchrun" | "ray":
            local, world = _number("LOCAL_WORLD_SIZE", 1), _number("WORLD_SIZE", 1)
        case "srun":
            world = _number("SLURM_STEP_NUM_TASKS", 1)
            if "SLURM_NTASKS_PER_NODE" not in os.environ:  # Lightning needs it
                raise ConfigError(
                    f"srun started {world} processes by --ntasks; give --ntasks-per-node and --nodes instead"
                )
            local = _number("SLURM_NTASKS_PER_NODE", world)
        case "kubeflow":  # one process per pod
            world = _number("WORLD_SIZE", 1)
    if world % local and detect_launcher() != "ray":  # Ray may start more processes on one node than on another
        raise ConfigError(
            f"{detect_launcher()} started {local} processes on this node and {world} in all; start equally many on "
            f"every node"
        )
    return local, world


def possible_world_sizes() -> list[int]:
    """Returns the numbers of processes with which the launcher may start or restart this run, in ascending order.

    There are several only with `rexnet ray --min-workers` and under `torchrun --nnodes MIN:MAX`. Processes of torchrun
    read that option from the command line of their parent, or from torchrun's variable `PET_NNODES`.
    """
    local, world = local_and_world_size()
    if detect_launcher() == "ray":
        least, _, most = os.environ[RAY_WORKERS].partition(":")
        return list(range(int(least), int(most) + 1))
    if detect_launcher() == "torchrun":
        agent = Path(f"/proc/{os.getppid()}/cmdline")
        words = agent.read_text(errors="replace").replace("\0", " ") if agent.is_file() else ""
        nodes = re.search(r"--nnodes[ =](\d+):(\d+)", f"{words} --nnodes={os.environ.get('PET_NNODES', '')}")
        if nodes:
            return [local * number for number in range(int(nodes[1]), int(nodes[2]) + 1)]
    return [world]


def is_rank_zero() -> bool:
    """True for the only process, or the first of all nodes, which alone logs, asks and writes.

    Lightning gives its processes LOCAL_RANK and NODE_RANK before they have a rank among all.
    """
    return not any(_number(name, 0) for name in RANKS)


def check_launch_environment() -> None:
    """Rejects stale rank variables: a rank above 0 would wait for a run folder that nobody creates.

    Warns if torchrun (2.15) cannot let lost nodes rejoin, since the remaining agents would keep the old store.

    Raises:
        ConfigError: a rank or a number of processes is not a number, or no launcher gave this process its rank.
    """
    for name in (*RANKS, *COUNTS):
        if not os.environ.get(name, "0").isdecimal():
            raise ConfigError(f"{name}={os.environ[name]} in the environment should be a whole number; unset it")
    for name in ("RANK", "SLURM_PROCID"):
        if _number(name, 0) > 0 and not started_by_launcher():
            raise ConfigError(
                f"{name}={os.environ[name]} in the environment makes this process one of several, but no launcher "
                "(torchrun, srun, Kubeflow, Ray) started it as such; unset it"
            )
    shares_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if shares_store and is_rank_zero() and len(possible_world_sizes()) > 1:
        log.warning("lost nodes cannot rejoin; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment")


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
