from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rexnet.config import load_config
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import Batch
from rexnet.training.callbacks.step_log import StepLog


def test_waiting_ends_when_the_batch_comes_and_not_when_the_device_has_it(
    small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("finetune/folder.yaml", small_run)
    data, log = ImageData(config), StepLog(tmp_path)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    trainer: Any = SimpleNamespace(datamodule=data)
    log.on_train_epoch_start(trainer, trainer)
    batch: Any = Batch
    for _ in range(3):
        clock.now += 2.0  # the loader is slow
        data.on_before_batch_transfer(batch, 0)
        clock.now += 5.0  # copying, normalising and erasing
        log.on_train_batch_start(trainer, trainer, batch, 0)
        log._left = clock.now
    assert log._waited == 6.0
