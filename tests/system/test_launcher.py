"""What launchers say of a process, and what only stands in the environment of the calling shell."""

import re

import pytest
from conftest import SMALL_RUN
from lightning_utilities.core.rank_zero import rank_zero_only

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.errors import ConfigError
from rexnet.system.launcher import check_launch_environment, check_srun_tasks
from rexnet.training.fit import build_trainer

JOB = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}  # what each shell of a job has
STEP = JOB | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": ""}, "RANK= in the environment should be a whole number; unset it"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID=x in the environment should be a whole number; unset it"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK=1 in the environment calls this process one of several, but neither"),
        (JOB | {"SLURM_PROCID": "2"}, "SLURM_PROCID=2 in the environment calls this process one of several"),
    ],
)
def test_a_rank_that_no_launcher_gave_is_one_sentence_before_anything_begins(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_environment(monkeypatch, environment)
    assert main(["train", "--config", "quickstart", "--print-config"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("environment", "world_size", "name"),
    [
        ({}, 1, "LightningEnvironment"),
        (JOB | {"SLURM_PROCID": "0", "SLURM_NTASKS_PER_NODE": "4"}, 1, "LightningEnvironment"),  # a shell of a job
        (STEP | {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}, 4, "SLURMEnvironment"),
        (STEP | {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"} | TORCHRUN, 2, "TorchElasticEnvironment"),
    ],
    ids=["nobody", "a shell in a job", "srun", "torchrun inside of a step"],
)
def test_only_who_started_the_processes_says_how_many_there_are(
    environment: dict[str, str], world_size: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, environment)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the trainer will set it, and loggers of later tests go by it
    check_launch_environment()
    nodes = 2 if name == "SLURMEnvironment" else 1
    devices = world_size // nodes
    overrides = ["data.root=x", f"trainer.devices={devices}", f"trainer.num_nodes={nodes}"]
    trainer = build_trainer(load_config("finetune/folder.yaml", [*SMALL_RUN, *overrides]))
    cluster = (
        trainer.strategy.cluster_environment if world_size > 1 else trainer._accelerator_connector.cluster_environment
    )
    assert (type(cluster).__name__, trainer.world_size) == (name, world_size)
    if name == "SLURMEnvironment":
        assert cluster.auto_requeue is False  # docs/slurm.sbatch does it


def test_a_step_of_srun_with_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, STEP)
    with pytest.raises(ConfigError, match=r"srun started 4 processes by --ntasks; give --ntasks-per-node and --nodes"):
        check_srun_tasks(4, 1)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    check_srun_tasks(4, 1)
    message = "trainer.devices, trainer.num_nodes: 1 and 1 do not match srun's 4 processes a node, 4 in all"
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_srun_tasks(1, 1)
