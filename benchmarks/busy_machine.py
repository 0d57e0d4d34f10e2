"""Measures training and evaluation on a CPU next to other busy programs, by how long OpenMP's threads spin.

    python benchmarks/busy_machine.py [--competitors 0 1 2] [--spins 300000 3000 1000] [--image-size 128] [--batch 16]

Threads that wait for each other spin before they sleep. The first of `--spins` is the one that all others are compared
with; 300,000 is the default of PyTorch's OpenMP runtime (libgomp), and 3,000 is ours (`src/rexnet/__init__.py`). Each
value has a process of its own, because the runtime reads it once. The processes take turns, and the median round
counts: next to other programs, the best one would be the exception. `--competitors` are processes that use one core
each.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from rexnet import rexnet
from rexnet.system.device import keep_freed_memory

TASKS = ("training step", "evaluation")


def main() -> None:
    """Prints images/s, and the ratio to the first value of `--spins`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competitors", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--spins", type=int, nargs="+", default=[300_000, 3_000, 1_000])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each value and task in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.image_size, options.batch, options.seconds)
        return
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.image_size} px, batch {options.batch}"
    )
    with contextlib.ExitStack() as stack:
        measures = {spins: stack.enter_context(started(spins)) for spins in options.spins}
        for competitors in options.competitors:
            rates: dict[tuple[str, int], list[float]] = {}
            with busy_processes(competitors):
                for _ in range(options.rounds):
                    for task in TASKS:
                        for spins, measure in measures.items():
                            rates.setdefault((task, spins), []).append(measure(task))
            report(competitors, options.spins, {key: statistics.median(values) for key, values in rates.items()})


def report(competitors: int, spins: list[int], rates: dict[tuple[str, int], float]) -> None:
    """Prints the lines of one number of competitors."""
    load = os.getloadavg()[0]  # shows what else is running
    print(f"\nnext to {competitors} busy programs, images/s (ratio); load of the last minute {load:.1f}")
    for task in TASKS:
        first = rates[task, spins[0]]
        cells = [f"{number:,} turns {rates[task, number]:.1f} ({rates[task, number] / first:.2f})" for number in spins]
        print(f"  {task:14} " + "   ".join(cells), flush=True)


@contextlib.contextmanager
def started(spins: int) -> Iterator[Callable[[str], float]]:
    """Yields a function that measures the images/s of a task in a process with that value."""
    command = [sys.executable, *sys.argv, "--serve"]
    environment = os.environ | {"GOMP_SPINCOUNT": str(spins)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def measure(task: str) -> float:
            print(task, file=questions, flush=True)
            return float(answers.readline())

        yield measure
        questions.close()


def serve(image_size: int, batch: int, seconds: float) -> None:
    """Answers each task on standard input with its images/s."""
    keep_freed_memory()
    model = rexnet(1.0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    images = torch.randn(batch, 3, image_size, image_size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch)

    def train() -> None:
        nn.functional.cross_entropy(model.train()(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def evaluate() -> None:
        with torch.inference_mode():
            model.eval()(images)

    runs = dict(zip(TASKS, (train, evaluate), strict=True))
    for line in sys.stdin:
        run = runs[line.strip()]
        run()  # warm-up
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            run()
            count += 1
        print(count * batch / elapsed, flush=True)


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Runs so many processes that use one core each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
