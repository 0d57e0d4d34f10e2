import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import load_config
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import Batch
from rexnet.training.callbacks.step_log import StepLog
from rexnet.training.classification import train


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


def test_the_size_of_growing_images_is_shown_and_logged(small_run: list[str], caplog: pytest.LogCaptureFixture) -> None:
    growing = ["augmentation.image_size={start: 32, end: 64}", "trainer.log_every_steps=1"]
    with caplog.at_level(logging.INFO):
        run = train(load_config("finetune/folder.yaml", [*small_run, *growing])).run
    lines = "\n".join(caplog.messages)
    assert ", 32, 64 px (validation 32 px), 32-true on 1 x CPU" in lines
    assert [re.search(r"  (\d+) px  \d+ img/s  wait", line)[1] for line in lines.split("\n") if "img/s" in line] == [
        "32", "64",
    ]  # fmt: skip
    events = EventAccumulator(str(run))
    events.Reload()
    sizes = {event.step: event.value for event in events.Scalars("train/image_size")}
    assert sizes == {1: 32, 2: 32, 3: 32, 4: 64, 5: 64, 6: 64}
