"""Trains ReXNet 1.0x from scratch on class folders, with this program and with timm's train.py, and compares.

    python benchmarks/flowers_vs_timm.py ROOT --timm-script /path/to/timm/train.py [--epochs 20] [--seeds 3]

ROOT holds train/CLASS and test/CLASS; the number of epochs is even. timm's package does not contain its training
script; it is in timm's repository. Network, image size (128 px), epochs, loader processes and fp32 are the same, and
there are two comparisons:

- own recipe: ours is the command of the README, which validates raw and EMA weights every second epoch; timm's is the
  ImageNet recipe with batch 32, which validates every epoch, so that both make the same number of validation passes;
- same recipe: batch 32, SGD, one learning rate schedule, augmentation and regularization on both sides, no EMA,
  validation every epoch.

The sides alternate, seed by seed. Times are those of the whole process with start-up and validation, and images/s are
its training images divided by that time.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

OURS = "--config finetune/folder.yaml data.image_size=128 optimizer.lr=0.05".split()
OURS += ["trainer.precision=fp32", "trainer.report=false"]  # as timm without --amp, which writes no report
TIMM = "--train-split train --val-split test --model rexnet_100 --num-classes 12 --img-size 128 --batch-size 32".split()
TIMM += "--opt sgd --lr 0.05 --weight-decay 1e-5 --sched cosine --smoothing 0.1".split()
TIMM += "--aa rand-m9-mstd0.5 --channels-last --device cpu --log-interval 1000".split()
SAME = "data.batch_size=32 optimizer.weight_decay=1e-5 schedule.warmup_lr=1e-5 schedule.min_lr=0 ema=null".split()
RECIPES = {  # our and timm's words
    "own recipe": (["data.batch_size=16", "trainer.val_every_epochs=2"], ["--reprob", "0.2"]),
    "same recipe": (SAME, "--drop 0.2 --scale 0.25 1.0 --warmup-lr 1e-5 --min-lr 0 --sched-on-updates".split()),
}


class Result(NamedTuple):
    """One training: top-1 of the last and the best epoch in percent, and its seconds."""

    last: float
    best: float
    seconds: float


def main() -> None:
    """Runs both sides of both comparisons, and prints mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--timm-script", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each side (default: 1)")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    images = sum(path.is_file() for path in (options.root / "train").glob("*/*")) * options.epochs
    found: dict[str, dict[str, list[Result]]] = {}
    for recipe in options.recipes:
        sides: dict[str, list[Result]] = {"ours": [], "timm": []}
        for seed in range(options.seeds):
            sides["ours"].append(run_ours(options, RECIPES[recipe][0], seed))
            sides["timm"].append(run_timm(options, RECIPES[recipe][1], seed))
        found[recipe] = sides
        print(f"\n{recipe}, {options.epochs} epochs, {options.seeds} seeds (mean and standard deviation)")
        for side, results in sides.items():
            last, best, seconds = (Spread.of(values) for values in zip(*results, strict=True))
            print(
                f"  {side}  last {last} %  best {best} %  {seconds} s  {images / seconds.mean:.1f} images/s", flush=True
            )
        ours, theirs = (statistics.mean(result.seconds for result in results) for results in sides.values())
        print(f"  wall time, ours / timm: {ours / theirs:.2f}", flush=True)
    if options.json:
        named = {r: {s: [one._asdict() for one in results] for s, results in x.items()} for r, x in found.items()}
        options.json.write_text(json.dumps({"epochs": options.epochs, "images": images, "recipes": named}, indent=1))


class Spread(NamedTuple):
    """Mean and standard deviation of a value over the seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> "Spread":
        return cls(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.deviation:.2f}"


def run_ours(options: argparse.Namespace, recipe: list[str], seed: int) -> Result:
    """Trains with this program."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            f"data.root={options.root}",
            f"data.num_workers={options.workers}",
            f"schedule.epochs={options.epochs}",
        ]
        words += [f"trainer.runs_dir={folder}", f"seed={seed}", *recipe]
        words += [f"schedule.warmup_epochs={warmup_epochs(options.epochs)}"]
        seconds = timed([sys.executable, "train.py", *OURS, *words])
        (table,) = Path(folder).glob("*/metrics.csv")
        column = "val/top1" if "ema=null" in recipe else "val_ema/top1"
        top1 = [float(row[column]) for row in csv.DictReader(table.open()) if row[column]]
    return Result(top1[-1], max(top1), seconds)


def run_timm(options: argparse.Namespace, recipe: list[str], seed: int) -> Result:
    """Trains with timm's script."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--data-dir", str(options.root), "--epochs", str(options.epochs), "--workers", str(options.workers)]
        words += ["--output", folder, "--seed", str(seed), *recipe]
        words += ["--warmup-epochs", str(warmup_epochs(options.epochs))]
        seconds = timed([sys.executable, str(options.timm_script), *TIMM, *words])
        (table,) = Path(folder).glob("*/summary.csv")
        top1 = [float(row["eval_top1"]) for row in csv.DictReader(table.open())]
    return Result(top1[-1], max(top1), seconds)


def warmup_epochs(epochs: int) -> int:
    """Returns two epochs, or half of a trial."""
    return min(2, epochs // 2)


def timed(command: list[str]) -> float:
    """Returns the seconds of a command."""
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
