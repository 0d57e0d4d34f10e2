"""Times several programs on this machine, each in a process of its own; they take turns, one at a time."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection

from rexnet.errors import ProcessError, RexnetError

ROUNDS = 3

Run = Callable[[int], object]
"""Computes one batch of so many images and returns when it is finished."""
Maker = Callable[[], Run]
"""Prepares a program in the process that measures it. It must be picklable: a function of a module or a `partial`."""


def measure_in_turns(
    makers: Mapping[str, Maker], batches: Sequence[int], seconds: float
) -> dict[str, dict[int, float]]:
    """Returns the images/s of each program for each batch size: the best of three rounds in which all take turns.

    Because of the turns, a busy machine slows all programs alike. Separate processes keep the programs from changing
    each other's figures: threads of PyTorch and ONNX Runtime spin for a while after their work, and a process has only
    one memory allocator, whose settings make an eager network on a CPU 1.5 times as fast
    (`system.device.keep_freed_memory`).

    Args:
        makers: prepares a program, by its name.
        batches: batch sizes; each is measured after one warm-up batch.
        seconds: time for each program and batch size in a round.

    Raises:
        RexnetError: a program raised it, or its process ended.
    """
    rates = {name: dict.fromkeys(batches, 0.0) for name in makers}
    with contextlib.ExitStack() as stack:
        asked = {name: stack.enter_context(_started(name, make)) for name, make in makers.items()}
        for batch in batches:
            for measure in asked.values():
                measure(batch, 0.0)
            for _ in range(ROUNDS):
                for name, measure in asked.items():
                    rates[name][batch] = max(rates[name][batch], measure(batch, seconds))
    return rates


@contextlib.contextmanager
def _started(name: str, make: Maker) -> Iterator[Callable[[int, float], float]]:
    """Yields a function that measures a program in its own process, which ends with the block."""
    context = multiprocessing.get_context("spawn")  # a fork would share what the parent's threads hold
    connection, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make))
    process.start()
    theirs.close()  # or the process would not notice when this one ends

    def measure(batch: int, seconds: float) -> float:
        try:
            connection.send((batch, seconds))
            answer: float | RexnetError = connection.recv()
        except (EOFError, OSError):
            process.join()
            raise ProcessError(f"{name}: the process that measures it ended with code {process.exitcode}") from None
        if isinstance(answer, RexnetError):
            raise answer
        return answer

    try:
        yield measure
    finally:
        connection.close()
        process.join()


def _serve(connection: Connection, make: Maker) -> None:
    """Answers each (batch size, seconds) with images/s until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process by closing
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            run = make()
        except RexnetError as error:
            connection.send(error)
            return
        while True:
            connection.send(_images_per_s(run, *connection.recv()))


def _images_per_s(run: Run, batch: int, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while True:
        run(batch)
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return count * batch / elapsed
