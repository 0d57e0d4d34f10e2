import os
import re
import shutil
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rexnet.config import Config, load_config
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import build_loader, resolve_loader
from rexnet.data.sampling import EvalBatchSampler
from rexnet.data.workers import explained_faults, require_shared_memory
from rexnet.errors import DataError


class Treacherous:
    """A transform that does something to its own loader process at one image."""

    sizes = (48,)

    def __init__(self, act: Any) -> None:
        self.act, self.count = act, 0

    def __call__(self, image: Any, key: int, epoch: int = 0) -> Any:
        self.count += 1
        if self.count == 3:
            self.act()
        return image


def nothing() -> None:
    pass


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    while True:
        time.sleep(60)  # a disk that does not answer; ended by the test


def load_all(small_run: list[str], act: Any, *overrides: str) -> None:
    config: Config = load_config("finetune/folder.yaml", [*small_run, "data.num_workers=1", *overrides])
    dataset = ImageDataset(ImageData(config).train_index, Treacherous(act), seed=0)
    loader = build_loader(dataset, EvalBatchSampler(24, 4), resolve_loader(config.data, config.trainer))
    with explained_faults([dataset], config.data.worker_timeout):
        for _ in loader:
            pass


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (kill_itself, r"loader process \d+ \(last at /.*/train/ant/002\.png\) was killed by signal Killed; if the"),
        (lambda: os._exit(0), r"loader process \d+ \(last at /.*/ant/002\.png\) exited without a message"),
    ],
    ids=["killed", "exits"],
)
def test_a_dead_loader_process_is_named_with_its_image(act: Any, message: str, small_run: list[str]) -> None:
    with pytest.raises(DataError, match=message):
        load_all(small_run, act, "data.worker_timeout=2")


def test_a_hung_loader_process_is_given_up_and_named_with_its_image(small_run: list[str]) -> None:
    with pytest.raises(DataError, match=r"no batch .* within 1 s \(process \d+ is at .*/002\.png\); check .* disk"):
        load_all(small_run, hang, "data.worker_timeout=1")


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), explained_faults([], 1.0):
        raise RuntimeError("size mismatch")
    with pytest.raises(DataError, match=r"/dev/shm is full.*--shm-size"), explained_faults([], 1.0):
        raise RuntimeError("unable to write to file </torch_1>: No space left on device, shared memory")


def test_too_little_shared_memory_is_said_before_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    require_shared_memory(2, 16_000_000)
    require_shared_memory(0, 10**12)
    message = r"has 64\.0 MB free, but 4 loader processes keep 2 batches of 16\.0 MB each there; .*--shm-size=256m"
    with pytest.raises(DataError, match=message):
        require_shared_memory(4, 16_000_000)


def test_signals_of_a_terminal_or_scheduler_leave_loader_processes_alive(small_run: list[str]) -> None:
    def all_of_them() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)

    load_all(small_run, all_of_them)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_settings_of_the_loader_reach_it(method: str, small_run: list[str]) -> None:
    settings = ["data.num_workers=1", f"data.start_method={method}", "data.persistent_workers=false"]
    config = load_config("finetune/folder.yaml", [*small_run, *settings, "data.worker_timeout=777"])
    data = ImageData(config)
    dataset = ImageDataset(data.train_index, Treacherous(nothing), seed=0)
    loader = build_loader(dataset, EvalBatchSampler(4, 4), resolve_loader(config.data, config.trainer))
    assert re.search(method, str(loader.multiprocessing_context), re.IGNORECASE)
    assert (loader.timeout, loader.persistent_workers) == (777, False)
    assert torch.equal(next(iter(loader)).labels, torch.zeros(4, dtype=torch.int64))
