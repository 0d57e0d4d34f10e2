"""Between two log entries, the host neither waits for the device nor sends it anything but batches.

Without a GPU, PyTorch's dispatcher tells which operations would do so: reading a number (`.item()`, `float`, `bool`,
`if`) is `_local_scalar_dense`, a Python value that becomes a tensor is `lift_fresh`.
"""

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from rexnet.config import load_config
from rexnet.training.classification import train

EVERYTHING = [
    "augmentation.mixup=0.2",
    "augmentation.cutmix=1.0",
    "augmentation.mix_prob=1",
    "augmentation.erase_prob=0.5",
    "model.dropout=0.2",
    "model.drop_path=0.2",
    "optimizer.clip_grad=1",
    "trainer.log_every_steps=50",
    "trainer.pad_channels=8",
    "data.num_workers=1",  # batches are put together elsewhere
]
WAITING = ("_local_scalar_dense", "nonzero", "lift_fresh")
PINNED = "augment/batch.py"  # the rectangles to erase: one pinned copy a batch, which a GPU takes without a wait


class Waits(TorchDispatchMode):
    """Collects the lines at which the host would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.is_watching = False
        self.operations = 0
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_watching:
            self.operations += 1
            if func.overloadpacket.__name__ in WAITING:
                places = [f for f in traceback.extract_stack() if f.filename != __file__ and "torch/" not in f.filename]
                if not (func.overloadpacket.__name__ == "lift_fresh" and places[-1].filename.endswith(PINNED)):
                    self.found.add(f"{func} at {places[-1].filename}:{places[-1].lineno}")
        return func(*args, **(kwargs or {}))


class BetweenLogs(Callback):
    """Watches the second epoch, when there is a best score, from the end of its first step to the start of its last."""

    def __init__(self, watch: Any) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            self.watch(True)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            self.watch(False)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows the progress bar, too."""
    monkeypatch.setattr("rexnet.system.terminal.is_interactive", lambda: True)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # else a thread outlives the test


def found_in(config: Any, *callbacks: Callback) -> Waits:
    waits = Waits()

    def watch(on: bool) -> None:
        waits.is_watching = on

    with waits:
        train(config, callbacks=[*callbacks, BetweenLogs(watch)])
    assert waits.operations > 500
    return waits


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_never_waits_for_the_device(optimizer: str, small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, *EVERYTHING, f"optimizer.name={optimizer}"])
    assert found_in(config).found == set()


def test_neither_sam_nor_a_teacher_makes_it_wait(small_run: list[str], trained_run: Path) -> None:
    methods = ["optimizer.sam_rho=0.05", f"distillation.teacher={trained_run}", "distillation.feature_weight=2"]
    methods += ["distillation.image_size=48", "optimizer.layer_decay=0.8", "ema={decay: null, last_epochs: 1}"]
    assert found_in(load_config("finetune/folder.yaml", [*small_run, *EVERYTHING, *methods])).found == set()


def test_a_wait_would_be_seen(small_run: list[str]) -> None:
    class Waiting(Callback):
        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            if module.grad_norm > 1e9:
                module.grad_norm = torch.tensor([0.0])[0]

    config = load_config("finetune/folder.yaml", [*small_run, *EVERYTHING])
    (found,) = found_in(config, Waiting()).found
    assert found.startswith("aten._local_scalar_dense.default at ")
    assert "test_host_waits.py" not in found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_gpu_step_never_waits(optimizer: str, small_run: list[str]) -> None:
    overrides = [*EVERYTHING, "trainer.accelerator=gpu", "trainer.devices=1", "trainer.precision=bf16"]
    config = load_config("finetune/folder.yaml", [*small_run, *overrides, f"optimizer.name={optimizer}"])
    try:
        train(config, callbacks=[BetweenLogs(lambda on: torch.cuda.set_sync_debug_mode("error" if on else "default"))])
    finally:
        torch.cuda.set_sync_debug_mode("default")
