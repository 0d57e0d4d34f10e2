"""Trains ReXNet 1.0x for one epoch with train.py and with timm's train.py on the same class folders.

    python benchmarks/program_vs_timm.py ROOT --timm-script /path/to/timm/train.py [--image-size 224] [--batch 32]

ROOT holds train/CLASS and val/CLASS; `jpeg_folder.py` writes one. Three programs run one after the other: ours with its
defaults, timm with its defaults, and timm with its best flags (NHWC; also bf16 if the hardware has it). All have the
same network, image size, batch, number of loader processes and ImageNet augmentation. timm's script times each step;
for ours, the log of the run has the same figures. The first tenth of the epoch, at most 20 steps, does not count
towards images/s, and start-up is the time of the whole process up to the end of the first step.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from rexnet.system.device import has_fast_bf16
from rexnet.system.resources import count_cores

OURS = re.compile(r"STEP (\d+) (\S+) (\S+)")
TIMM = re.compile(r"Train: 0 \[ *(\d+)/(\d+).*Time: (\S+)s, .*Data: (\S+) ")
# Prints when each step ended and what it waited for data, as timm's script does with --log-interval 1.
STEPS = """
import sys, time
from pytorch_lightning.callbacks import Callback
from rexnet.config import load_config
from rexnet.training.classification import train

class Steps(Callback):
    def on_train_epoch_start(self, trainer, module):
        self.left = time.perf_counter()
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if module.device.type == "cuda":
            import torch
            torch.cuda.synchronize()
        now = time.perf_counter()
        print("STEP", index, now - self.left, trainer.datamodule.received - self.left, flush=True)
        self.left = now

if __name__ == "__main__":
    train(load_config(sys.argv[1], sys.argv[2:]), callbacks=[Steps()])
"""


def main() -> None:
    """Prints a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--timm-script", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=count_cores())
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    best = ["--channels-last"]
    if has_fast_bf16("gpu" if on_gpu else "cpu"):
        best += ["--amp", "--amp-dtype", "bfloat16"]
    figures = {
        "ours": measure_ours(options),
        "timm": measure_timm(options, on_gpu, []),
        f"timm {' '.join(best)}": measure_timm(options, on_gpu, best),
    }
    first = figures["timm"]["images_per_s"]
    for name, values in figures.items():
        print(
            f"{name:46} {values['images_per_s']:8.1f} images/s ({values['images_per_s'] / first:.2f})  "
            f"start-up {values['startup_s']:5.1f} s  wait {values['wait']:.0%}  epoch {values['seconds']:.0f} s"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure_ours(options: argparse.Namespace) -> dict[str, float]:
    """Returns the figures of this program, with a callback that prints each step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            f"data.root={options.root}",
            f"data.image_size={options.image_size}",
            f"data.batch_size={options.batch}",
        ]
        words += [f"data.num_workers={options.workers}", f"trainer.runs_dir={folder}", "trainer.report=false"]
        words += ["schedule.epochs=1", "schedule.warmup_epochs=0", "augmentation.erase_prob=0.2"]
        script = Path(folder) / "steps.py"
        script.write_text(STEPS)
        return measure([sys.executable, str(script), "finetune/folder.yaml", *words], OURS, options.batch)


def measure_timm(options: argparse.Namespace, on_gpu: bool, flags: list[str]) -> dict[str, float]:
    """Returns the figures of timm's script with those flags."""
    classes = sum(path.is_dir() for path in (options.root / "train").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        words = ["--data-dir", str(options.root), "--val-split", "val", "--model", "rexnet_100", "--drop", "0.2"]
        words += ["--num-classes", str(classes), "--img-size", str(options.image_size), "--batch-size"]
        words += [str(options.batch), "--workers", str(options.workers), "--output", folder, "--epochs", "1"]
        words += "--warmup-epochs 0 --lr 0.01 --scale 0.25 1.0 --aa rand-m9-mstd0.5 --reprob 0.2".split()
        words += ["--log-interval", "1", "--device", "cuda" if on_gpu else "cpu"]
        return measure([sys.executable, str(options.timm_script), *words, *flags], TIMM, options.batch)


def measure(command: list[str], pattern: re.Pattern[str], batch: int) -> dict[str, float]:
    """Runs a program and returns its images/s, start-up, wait for data and duration, from the lines of its steps."""
    start, startup, steps, output = time.perf_counter(), 0.0, [], ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if found := pattern.search(line):
                startup = startup or time.perf_counter() - start
                steps.append((float(found[found.lastindex - 1]), float(found[found.lastindex])))  # type: ignore[operator,index]
    if process.returncode or not steps:
        sys.exit(f"{' '.join(command)} failed:\n{output[-2000:]}")
    counted = steps[min(20, max(1, len(steps) // 10)) :] or steps
    seconds, waited = (sum(column) for column in zip(*counted, strict=True))
    return {
        "images_per_s": len(counted) * batch / seconds,
        "startup_s": startup,
        "wait": waited / seconds,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main()
