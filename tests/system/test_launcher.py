"""The launcher of a process is found by its variables, which nothing else in the package reads."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_RUN
from lightning_utilities.core.rank_zero import rank_zero_only

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.errors import ConfigError
from rexnet.system.launcher import (
    check_launch_environment,
    detect_launcher,
    is_rank_zero,
    local_and_world_size,
    possible_world_sizes,
    started_by_launcher,
)
from rexnet.training.trainer import build_trainer

ROOT = Path(__file__).parents[2]
JOB = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}  # what each shell of a job has
STEP = JOB | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
KUBEFLOW = {"KUBERNETES_PORT": "tcp://10.0.0.1:443", "RANK": "1", "WORLD_SIZE": "2"}
RAY = {"REXNET_RAY_WORKERS": "2:4", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "3"}


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "launcher", "sizes", "first"),
    [
        ({}, None, (1, 1), True),
        (JOB | {"SLURM_PROCID": "0"}, None, (1, 1), True),
        (STEP | {"SLURM_NTASKS_PER_NODE": "2"}, "srun", (2, 4), False),
        (STEP | TORCHRUN, "torchrun", (2, 2), False),
        (KUBEFLOW, "kubeflow", (1, 2), False),
        (KUBEFLOW | {"RANK": "0"}, "kubeflow", (1, 2), True),
        (KUBEFLOW | {"RANK": "0", "WORLD_SIZE": "1"}, None, (1, 1), True),
        (KUBEFLOW | TORCHRUN, "torchrun", (2, 2), False),
        (RAY, "ray", (2, 3), False),
        (RAY | {"RANK": "0", "LOCAL_RANK": "0"}, "ray", (2, 3), True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, "lightning", (1, 1), False),
    ],
)
def test_the_launcher_is_found_by_its_variables(
    environment: dict[str, str],
    launcher: str | None,
    sizes: tuple[int, int],
    first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, environment)
    assert (detect_launcher(), local_and_world_size(), is_rank_zero()) == (launcher, sizes, first)
    assert started_by_launcher() == (launcher not in (None, "lightning"))


def test_no_other_module_reads_variables_of_launchers() -> None:
    readers = [
        file.name
        for file in (ROOT / "src").rglob("*.py")
        if re.search("SLURM_|TORCHELASTIC_|KUBERNETES_", file.read_text(encoding="utf-8"))
    ]
    assert readers == ["launcher.py"]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": ""}, "RANK= in the environment should be a whole number; unset it"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID=x in the environment should be a whole number; unset it"),
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            "RANK=1 in the environment makes this process one of several, but no",
        ),
        (JOB | {"SLURM_PROCID": "2"}, "SLURM_PROCID=2 in the environment makes this process one of several"),
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
        (KUBEFLOW, 2, "KubeflowEnvironment"),
    ],
    ids=["nobody", "a shell in a job", "srun", "torchrun inside of a step", "Kubeflow"],
)
def test_only_who_started_the_processes_says_how_many_there_are(
    environment: dict[str, str], world_size: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, environment)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the trainer will set it, and loggers of later tests go by it
    check_launch_environment()
    wrong = ["trainer.devices=7", "trainer.num_nodes=3"] if world_size > 1 else []
    trainer = build_trainer(load_config("finetune/folder.yaml", [*SMALL_RUN, "data.root=x", *wrong]))
    cluster = (
        trainer.strategy.cluster_environment if world_size > 1 else trainer._accelerator_connector.cluster_environment
    )
    assert (type(cluster).__name__, trainer.world_size) == (name, world_size)
    if name == "SLURMEnvironment":
        assert cluster.auto_requeue is False  # docs/slurm.sbatch does it


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (STEP, "srun started 4 processes by --ntasks; give --ntasks-per-node and --nodes instead"),
        (
            TORCHRUN | {"WORLD_SIZE": "3"},
            "torchrun started 2 processes on this node and 3 in all; start equally many on every node",
        ),
    ],
)
def test_nodes_have_equally_many_processes(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, environment)
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        local_and_world_size()


def test_an_elastic_launcher_may_start_several_numbers_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert possible_world_sizes() == [1]
    set_environment(monkeypatch, TORCHRUN)
    assert possible_world_sizes() == [2]
    monkeypatch.setenv("PET_NNODES", "2:4")  # of Kubeflow
    assert possible_world_sizes() == [4, 6, 8]
    set_environment(monkeypatch, RAY)
    assert possible_world_sizes() == [2, 3, 4]
    monkeypatch.delenv("REXNET_RAY_WORKERS")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    worker = "from rexnet.system.launcher import possible_world_sizes; print(possible_world_sizes())"
    agent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[-1]], check=True)"
    command = [sys.executable, "-c", agent, "--nnodes", "1:3", worker]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[2, 4, 6]\n"


@pytest.mark.parametrize(("shares_store", "rank", "warned"), [("True", "0", 1), ("False", "0", 0), ("True", "1", 0)])
def test_a_node_that_could_not_rejoin_is_told_once(
    shares_store: str, rank: str, warned: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_USE_AGENT_STORE": shares_store}
    set_environment(monkeypatch, TORCHRUN | ranks)
    check_launch_environment()
    assert caplog.text == ""
    monkeypatch.setenv("PET_NNODES", "1:2")
    check_launch_environment()
    assert caplog.text.count("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1") == warned


def test_two_pods_of_kubeflow_train_together(small_run: list[str], tmp_path: Path) -> None:
    """Starts two processes with the variables of a PyTorchJob; each pod has one process."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    overrides = [*small_run, "data.batch_size=12", "schedule.epochs=1"]
    command = [sys.executable, str(ROOT / "train.py"), "--config", "finetune/folder.yaml", *overrides]
    pods = [
        subprocess.Popen(
            command,
            env=os.environ | KUBEFLOW | address | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [pod.communicate(timeout=120)[1] for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
    assert [pod.returncode for pod in pods] == [0, 0], said
    assert " on 2 x CPU" in said[0]
    assert "of 2 steps with 12 images" in said[0]
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said[1]
    assert len(list((tmp_path / "runs").iterdir())) == 1
