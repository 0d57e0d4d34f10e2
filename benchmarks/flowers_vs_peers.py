"""Trains from scratch on class folders with this program and its peers, timm's train.py and Ultralytics, and compares.

    python benchmarks/flowers_vs_peers.py ROOT --timm-script /path/to/timm/train.py --yolo-python /path/to/bin/python

ROOT holds train/CLASS and test/CLASS; the number of epochs is a multiple of 5. timm's package does not contain its
training script; it is in timm's repository. `--yolo-python` is a Python that has the package `ultralytics`, which
writes its caches into ROOT. A peer without its option is left out. Loader processes and the CPU are the same on all
sides, and there are two comparisons:

- own recipe: ours is the command of the README, with ReXNet 0.5x; timm's is its ImageNet recipe for ReXNet 1.0x with
  batch 32, at 128 px; Ultralytics' are its defaults for yolo11n-cls without pretrained weights, at 128 px;
- same recipe, for ours and timm's: ReXNet 1.0x, 128 px, batch 32, SGD, one learning rate schedule, augmentation and
  regularization, no EMA, validation every epoch.

The sides alternate, seed by seed. Times are those of the whole process with start-up and validation.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

OURS = "--config finetune/scratch.yaml data.image_size=128 trainer.report=false".split()  # no peer writes a report
TIMM = "--train-split train --val-split test --model rexnet_100 --img-size 128 --batch-size 32".split()
TIMM += "--opt sgd --lr 0.05 --weight-decay 1e-5 --sched cosine --smoothing 0.1".split()
TIMM += "--aa rand-m9-mstd0.5 --channels-last --device cpu --log-interval 1000".split()
SMALL = "model.width_mult=0.5 trainer.val_every_epochs=5".split()
SAME = "trainer.precision=fp32 ema=null".split()  # as timm without --amp, whose bf16 is slower on CPUs
RECIPES = {  # our and timm's words
    "own recipe": (SMALL, ["--reprob", "0.2"]),
    "same recipe": (SAME, "--drop 0.2 --scale 0.25 1.0 --warmup-lr 1e-5 --min-lr 0 --sched-on-updates".split()),
}
YOLO = """
import sys
from ultralytics import YOLO
root, folder, epochs, workers, seed = sys.argv[1:]
YOLO("yolo11n-cls.yaml").train(
    data=root, epochs=int(epochs), imgsz=128, device="cpu", workers=int(workers), seed=int(seed), pretrained=False,
    plots=False, project=folder, name="run",
)
"""


class Result(NamedTuple):
    """One training: top-1 of the last and the best epoch in percent, and its seconds."""

    last: float
    best: float
    seconds: float


def main() -> None:
    """Runs all sides of both comparisons, and prints mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--timm-script", type=Path, help="timm's train.py")
    parser.add_argument("--yolo-python", type=Path, help="Python with the package ultralytics")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each side (default: 1)")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    options.root = options.root.resolve()
    for peer, flag in {"timm": "--timm-script", "Ultralytics": "--yolo-python"}.items():
        path = getattr(options, flag[2:].replace("-", "_"))
        if path is None:
            print(f"{peer} is left out, because {flag} is not given")
        elif not path.is_file():
            parser.error(f"{flag}: {path} does not exist")
    found: dict[str, dict[str, list[Result]]] = {}
    for recipe in options.recipes:
        sides = choose_sides(options, recipe)
        results: dict[str, list[Result]] = {side: [] for side in sides}
        for seed in range(options.seeds):
            for side, run in sides.items():
                results[side].append(run(seed))
        found[recipe] = results
        print(f"\n{recipe}, {options.epochs} epochs, {options.seeds} seeds (mean and standard deviation)")
        ours = statistics.mean(result.seconds for result in results["ours"])
        for side, runs in results.items():
            last, best, seconds = (Spread.of(values) for values in zip(*runs, strict=True))
            ratio = "" if side == "ours" else f"  wall time, ours / {side}: {ours / seconds.mean:.2f}"
            print(f"  {side:<11}  last {last} %  best {best} %  {seconds} s{ratio}", flush=True)
    if options.json:
        named = {r: {s: [one._asdict() for one in results] for s, results in x.items()} for r, x in found.items()}
        options.json.write_text(json.dumps({"epochs": options.epochs, "recipes": named}, indent=1))


def choose_sides(options: argparse.Namespace, recipe: str) -> dict[str, Callable[[int], Result]]:
    """Returns what trains each side of a comparison with a seed."""
    ours, timm = RECIPES[recipe]
    sides: dict[str, Callable[[int], Result]] = {"ours": partial(run_ours, options, ours)}
    if options.timm_script is not None:
        sides["timm"] = partial(run_timm, options, timm)
    if options.yolo_python is not None and recipe == "own recipe":
        sides["yolo11n-cls"] = partial(run_yolo, options)
    return sides


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
        return read_result(table, "val/top1" if "ema=null" in recipe else "val_ema/top1", seconds)


def run_timm(options: argparse.Namespace, recipe: list[str], seed: int) -> Result:
    """Trains with timm's script."""
    with tempfile.TemporaryDirectory() as folder:
        classes = sum(path.is_dir() for path in (options.root / "train").iterdir())
        words = ["--data-dir", str(options.root), "--epochs", str(options.epochs), "--workers", str(options.workers)]
        words += ["--output", folder, "--seed", str(seed), "--num-classes", str(classes), *recipe]
        words += ["--warmup-epochs", str(warmup_epochs(options.epochs))]
        seconds = timed([sys.executable, str(options.timm_script), *TIMM, *words])
        (table,) = Path(folder).glob("*/summary.csv")
        return read_result(table, "eval_top1", seconds)


def run_yolo(options: argparse.Namespace, seed: int) -> Result:
    """Trains Ultralytics' smallest classifier."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(word) for word in (options.root, folder, options.epochs, options.workers, seed)]
        seconds = timed([str(options.yolo_python), "-c", YOLO, *words])
        return read_result(Path(folder) / "run" / "results.csv", "metrics/accuracy_top1", seconds, unit=0.01)


def read_result(table: Path, column: str, seconds: float, unit: float = 1.0) -> Result:
    """Reads top-1 of the last and the best epoch from a table; `unit` is one percent in its values."""
    rows = csv.DictReader(table.open(), skipinitialspace=True)
    top1 = [float(row[column]) / unit for row in rows if row[column]]
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
