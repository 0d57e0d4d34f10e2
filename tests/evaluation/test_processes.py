import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from rexnet.cli import main


def run_as_torchrun(work: Callable[[int], int], world_size: int, folder: Path) -> tuple[list[int | None], str]:
    """Exit code of each process, and what all of them said on standard error."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun holds one for its processes

    def one(rank: int) -> None:
        torch.set_num_threads(1)
        torchrun = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        torchrun |= {"TORCHELASTIC_USE_AGENT_STORE": True, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        torchrun |= {"RANK": rank, "LOCAL_RANK": rank}
        os.environ |= {name: str(value) for name, value in torchrun.items()}
        with (folder / f"{rank}.err").open("w") as errors, (folder / f"{rank}.out").open("w") as output:
            sys.stderr, sys.stdout = errors, output
            sys.exit(work(rank))

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=one, args=(rank,)) for rank in range(world_size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()  # one that hangs
    said = "".join((folder / f"{rank}.err").read_text() for rank in range(world_size))
    return [process.exitcode for process in processes], said


def test_three_processes_give_the_digits_of_one_though_two_batches_do_not_go_round(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / trained_run.name
    shutil.copytree(trained_run, run)
    command = ["evaluate", str(run), "--weights", "soup", "--tta", "flip"]
    assert main([*command, "--json", str(tmp_path / "one.json")]) == 0
    printed = capsys.readouterr().out.splitlines()[0]
    shared = [*command, "--json", str(tmp_path / "three.json")]
    codes, said = run_as_torchrun(lambda rank: main(shared), 3, tmp_path)
    assert codes == [0, 0, 0], said
    one, three = (json.loads((tmp_path / f"{name}.json").read_text())["results"] for name in ("one", "three"))
    assert [row["n"] for row in one] == [15, 15]
    assert [{**row, "images_per_s": 0} for row in three] == [{**row, "images_per_s": 0} for row in one]
    assert (tmp_path / "0.out").read_text().startswith(printed)
    assert (tmp_path / "1.out").read_text() == (tmp_path / "2.out").read_text() == ""


def test_a_process_that_fails_says_why_and_the_others_do_not_wait(
    trained_run: Path, image_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(image_root, tmp_path / "images")
    (tmp_path / "images" / "val" / "cow" / "004.png").write_bytes(b"")  # the last: of the second process
    command = ["evaluate", str(trained_run), "--data", str(tmp_path / "images"), "--workers", "1"]
    codes, said = run_as_torchrun(lambda rank: main(command), 2, tmp_path)
    assert codes == [1, 2]  # torchrun would end the first
    assert said.count("004.png") == 1
    assert "error: another process of this evaluation ended" in said
    assert "Traceback" not in said
