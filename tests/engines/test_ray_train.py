"""A real Ray on this machine loses a worker; the run resumes and ends like one of torchrun."""

import csv
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import SMALL_RUN, assert_same_tensors, final_state, write_images

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

MAIN = "import sys; from rexnet.cli import main; sys.exit(main())"
LIMIT_S = 150


def rows(run: Path) -> list[dict[str, str]]:
    """The table of a run without the columns of the clock."""
    if not (run / "metrics.csv").exists():
        return []
    with (run / "metrics.csv").open(newline="") as file:
        clocks = ("train/images_per_s", "train/data_wait_share", "seconds")
        return [{name: value for name, value in row.items() if name not in clocks} for row in csv.DictReader(file)]


def workers(mark: str) -> list[int]:
    """The processes of Ray Train's workers among the descendants of a command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark.encode() in (folder / "environ").read_bytes()
            if ours and b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return sorted(found)


def wait_for_rows(run: Path, number: int) -> float:
    deadline = time.monotonic() + LIMIT_S
    while len(rows(run)) < number:
        assert time.monotonic() < deadline, f"{run}: no {number} rows"
        time.sleep(0.1)
    return time.monotonic()


def test_a_killed_worker_is_replaced_and_the_digits_are_those_of_torchrun(tmp_path: Path) -> None:
    for number, label in enumerate(("ant", "bee", "cow")):
        write_images(tmp_path / "images" / "train" / label, 80, hue=number)
        write_images(tmp_path / "images" / "val" / label, 5, hue=number)
    epochs = 8
    settings = ["--config", "finetune/folder.yaml", *SMALL_RUN, f"data.root={tmp_path}/images"]
    settings += [f"schedule.epochs={epochs}", "trainer.runs_dir=runs"]
    mark = f"RAY_TEST={uuid.uuid4()}"
    env = os.environ | {"OMP_NUM_THREADS": "1", "RAY_DISABLE_IMPORT_WARNING": "1"} | dict([mark.split("=")])
    began = time.monotonic()
    with (tmp_path / "ray.log").open("wb") as log:
        command = [sys.executable, "-c", MAIN, "ray", "--workers", "2", *settings, "trainer.run_name=ray"]
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    run = tmp_path / "runs" / "ray"
    try:
        first = wait_for_rows(run, 1) - began
        pids, before = workers(mark), len(rows(run))
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        killed = time.monotonic()
        returned = wait_for_rows(run, before + 2) - killed  # the epoch of the kill may have ended
        code = process.wait(LIMIT_S)
    finally:
        process.kill()
    print(f"\n{first:.0f} s to the first epoch's end, {returned:.0f} s from kill to the next, rows {before}")
    assert code == 0, (tmp_path / "ray.log").read_text()[-3000:]
    assert workers(mark) == []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [*torchrun, sys.executable, "-c", MAIN, "train", *settings, "trainer.run_name=torchrun"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=LIMIT_S)
    assert len(rows(run)) == epochs
    assert rows(run) == rows(tmp_path / "runs" / "torchrun")
    mine, theirs = final_state(run), final_state(tmp_path / "runs" / "torchrun")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same_tensors(mine[part], theirs[part])
