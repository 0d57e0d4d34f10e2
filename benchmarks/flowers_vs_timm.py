"""Trains ReXNet 1.0x from scratch on class folders, once with this program and once with timm, and compares.

    python benchmarks/flowers_vs_timm.py ROOT [--epochs 20] [--timm-script /path/to/timm/train.py]

ROOT holds train/CLASS and test/CLASS; the number of epochs is even. Both sides use the same network, image size,
epochs and number of loader processes, and each its own recipe: timm the ImageNet recipe with batch 32, ours the
command of the README, which validates two networks (raw and EMA) every second epoch, while timm validates one every
epoch. Wall time is that of the whole process, including start-up and validation. timm's package does not contain its
training script; without `--timm-script`, a plain loop over timm's loader, optimizer and schedule replaces it.
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = "--config finetune/folder.yaml data.image_size=128 data.batch_size=16 optimizer.lr=0.05".split()
OURS += ["trainer.val_every_epochs=2", "trainer.precision=fp32"]  # as timm without --amp
TIMM = "--train-split train --val-split test --model rexnet_100 --num-classes 12 --img-size 128 --batch-size 32".split()
TIMM += "--opt sgd --lr 0.05 --weight-decay 1e-5 --sched cosine --warmup-epochs 2 --smoothing 0.1".split()
TIMM += "--aa rand-m9-mstd0.5 --reprob 0.2 --channels-last --device cpu --log-interval 1000".split()


def main() -> None:
    """Runs both sides and prints one line for each, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timm-script", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = run_ours(options, Path(folder))
        theirs = run_timm(options, Path(folder)) if options.timm_script else run_timm_loop(options)
    print(f"\nwall time, ours / timm: {ours / theirs:.2f}")


def run_ours(options: argparse.Namespace, folder: Path) -> float:
    """Returns the seconds of our training."""
    settings = [
        f"data.root={options.root}",
        f"data.num_workers={options.workers}",
        f"trainer.runs_dir={folder / 'ours'}",
        "trainer.report=false",  # timm writes none
    ]
    epochs = [f"schedule.epochs={options.epochs}"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "train.py", *OURS, *settings, *epochs], check=True)
    seconds = time.perf_counter() - start
    (table,) = (folder / "ours").glob("*/metrics.csv")
    report("ours", [float(row["val_ema/top1"]) for row in csv.DictReader(table.open()) if row["val_ema/top1"]], seconds)
    return seconds


def run_timm(options: argparse.Namespace, folder: Path) -> float:
    """Returns the seconds of timm's training script."""
    settings = ["--data-dir", str(options.root), "--epochs", str(options.epochs), "--workers", str(options.workers)]
    start = time.perf_counter()
    command = [sys.executable, str(options.timm_script), *TIMM, *settings, "--output", str(folder / "timm")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"timm's script failed:\n{done.stderr[-2000:]}")
    (table,) = (folder / "timm").glob("*/summary.csv")
    report("timm train.py", [float(row["eval_top1"]) for row in csv.DictReader(table.open())], seconds)
    return seconds


def run_timm_loop(options: argparse.Namespace) -> float:
    """Returns the seconds of a plain loop over timm's parts, in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__.replace("flowers_vs_timm", "timm_loop"), str(options.root)]
    done = subprocess.run(
        [*command, str(options.epochs), str(options.workers)], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    report("timm loop", [float(value) for value in re.findall(r"top1 ([\d.]+)", done.stdout)], seconds)
    return seconds


def report(name: str, top1: list[float], seconds: float) -> None:
    """Prints last and best accuracy, and time."""
    print(f"{name:14} last {top1[-1]:.2f} %  best {max(top1):.2f} %  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
