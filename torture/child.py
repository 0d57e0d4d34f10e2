"""Trains a small network in its own process, with a fault injected at one step: `python -m torture.child KEY=VALUE...`.

The fault comes from the environment as JSON in FAULT: {"step": 4, "rank": 1, "act": 15}; `act` is a signal to this
process, "raise", or "nan" (until "until"). With SAMPLES, the images of each step are written to a file in that folder;
PACE prolongs each step by so many seconds.
"""

import hashlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config import load_config
from rexnet.data.dataset import Batch
from rexnet.training.classification import train


class Fault(Callback):
    """Injects the fault that FAULT describes."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Injects the fault before the step that follows `step` completed ones."""
        here = trainer.global_rank == self.fault.get("rank", 0)
        act, step = self.fault["act"], self.fault["step"]
        if here and act == "nan" and step <= trainer.global_step <= self.fault.get("until", step):
            batch[0].fill_(float("nan"))
        elif here and trainer.global_step == step and self.fault.get("place", "step") == "step":
            if act == "raise":
                raise RuntimeError("planted")
            if isinstance(act, int):
                os.kill(os.getpid(), act)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        """Injects the fault in the validation after `step` steps."""
        if self.fault.get("place") == "validation" and trainer.global_step == self.fault["step"]:
            os.kill(os.getpid(), self.fault["act"])


class SampleLog(Callback):
    """Writes the digests of the pixels of each step, as they come from the loader."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}.jsonl"
        self.digests: list[str] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Reads each batch before its transfer to the device, because mixup makes others of the images there."""
        transfer = trainer.datamodule.on_before_batch_transfer

        def log(batch: Batch, dataloader_idx: int) -> Batch:
            self.digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16] for image in batch.images]
            return transfer(batch, dataloader_idx)

        trainer.datamodule.on_before_batch_transfer = log

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Writes a line; the port of the process group tells the starts of a run apart."""
        entry = {"start": os.environ.get("MASTER_PORT"), "began": time.time(), "step": trainer.global_step + 1}
        with self.path.open("a") as file:
            file.write(json.dumps(entry | {"world": trainer.world_size, "images": self.digests}) + "\n")
        time.sleep(float(os.environ.get("PACE", "0")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("rexnet").setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.ERROR)
    planted: list[Callback] = [Fault(json.loads(os.environ["FAULT"]))] if "FAULT" in os.environ else []
    if "SAMPLES" in os.environ:
        planted.append(SampleLog(Path(os.environ["SAMPLES"])))
    resume = Path(os.environ["RESUME"]) if "RESUME" in os.environ else None
    train(load_config("finetune/folder.yaml", sys.argv[1:]), resume, callbacks=planted)
