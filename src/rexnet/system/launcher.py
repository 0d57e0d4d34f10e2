"""Who started this process: what torchrun and srun say of it in the environment, and what is only left over there."""

import os

from rexnet.errors import ConfigError

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS")


def is_rank_zero() -> bool:
    """Whether this is the only process or the first of several on all nodes, which alone speaks, asks and writes.

    Lightning tells those that it starts by LOCAL_RANK and NODE_RANK, before they have a rank among all.
    """
    return not any(int(os.environ.get(name, "0")) for name in RANKS)


def is_under_torchrun() -> bool:
    """Whether torchrun started this process, one of those that it tells of in the environment."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_under_kubeflow() -> bool:
    """Whether this process is one of several in a cluster of Kubernetes, where Lightning finds the others."""
    return "KUBERNETES_PORT" in os.environ and "RANK" in os.environ


def is_under_srun() -> bool:
    """Whether srun started this process as one of several.

    `SLURM_NTASKS` says what a job may start, also to its shells; what such a shell starts has no others to wait for.
    """
    return not is_under_torchrun() and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def check_launch_environment() -> None:
    """Checks ranks before anybody believes them: with one above 0, a process waits for another to make the run folder.

    Raises:
        ConfigError: a rank or a number of processes is no number, or no launcher gave the rank that stands there.
    """
    for name in (*RANKS, *COUNTS):
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise ConfigError(f"{name}={value} in the environment should be a whole number; unset it")
    launchers = {"RANK": is_under_kubeflow(), "SLURM_PROCID": is_under_srun()}
    for name, is_launched in launchers.items():
        if int(os.environ.get(name, "0")) > 0 and not (is_launched or is_under_torchrun()):
            raise ConfigError(
                f"{name}={os.environ[name]} in the environment calls this process one of several, but neither torchrun "
                "nor srun started it as such; unset it"
            )


def check_srun_tasks(devices: int, nodes: int) -> None:
    """Checks that srun started one process for each device.

    Raises:
        ConfigError: it started others.
    """
    if not is_under_srun():
        return
    tasks, on_node = os.environ["SLURM_STEP_NUM_TASKS"], os.environ.get("SLURM_NTASKS_PER_NODE")
    if on_node is None:
        raise ConfigError(f"srun started {tasks} processes by --ntasks; give --ntasks-per-node and --nodes instead")
    if (int(on_node), int(tasks)) != (devices, devices * nodes):
        raise ConfigError(
            f"trainer.devices, trainer.num_nodes: {devices} and {nodes} do not match srun's {on_node} processes a "
            f"node, {tasks} in all"
        )
