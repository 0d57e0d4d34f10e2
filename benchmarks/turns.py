"""Times several programs on this machine, each in a process of its own; they take turns, one at a time."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from rexnet.errors import ProcessError, RexnetError

ROUNDS = 3

Run = Callable[[int], object]
"""Computes one batch of so many images and returns when it is finished."""
Maker = Callable[[], Run]
"""Prepares a program in the process that measures it. It must be picklable: a function of a module or a `partial`."""


class Speed(NamedTuple):
    """The speed of a program."""

    start_s: float
    """Seconds from the start of its process to the end of its first batch."""
    images_per_s: dict[int, float]
    """For each batch size."""


class Program(NamedTuple):
    """A program in a process of its own."""

    ask: Callable[[int, float], None]
    """Starts to compute batches of so many images for so many seconds."""
    answer: Callable[[], tuple[float, float]]
    """Waits for it and returns images/s, and the seconds since the process was started."""


def measure_in_turns(
    makers: Mapping[str, Maker], batches: Sequence[int], seconds: float, compiled: Collection[str] = ()
) -> dict[str, Speed]:
    """Returns the speed of each program: the best of three rounds in which all take turns.

    Because of the turns, a busy machine slows all programs alike. Separate processes keep the programs from changing
    each other's figures: threads of PyTorch and ONNX Runtime spin for a while after their work, and a process has only
    one memory allocator, whose settings make an eager network on a CPU 1.5 times as fast
    (`system.device.keep_freed_memory`).

    Args:
        makers: prepares a program, by its name.
        batches: batch sizes; each is measured after one warm-up batch.
        seconds: time for each program and batch size in a round.
        compiled: names of programs that start at the same time, before the others start one by one, because compiling
            takes long and leaves most cores idle.

    Raises:
        RexnetError: a program raised it, or its process ended.
    """
    with contextlib.ExitStack() as stack:
        programs: dict[str, Program] = {}
        starts: dict[str, float] = {}
        groups = [[name for name in makers if name in compiled], *([name] for name in makers if name not in compiled)]
        for group in groups:
            for name in group:
                programs[name] = stack.enter_context(_started(name, makers[name]))
                programs[name].ask(batches[0], 0.0)
            for name in group:
                _, starts[name] = programs[name].answer()
        speeds = {name: Speed(starts[name], dict.fromkeys(batches, 0.0)) for name in makers}
        for batch in batches:
            for _ in range(ROUNDS):
                for name, speed in speeds.items():
                    if batch != batches[0]:
                        programs[name].ask(batch, 0.0)
                        programs[name].answer()
                    programs[name].ask(batch, seconds)
                    speed.images_per_s[batch] = max(speed.images_per_s[batch], programs[name].answer()[0])
    return speeds


@contextlib.contextmanager
def _started(name: str, make: Maker) -> Iterator[Program]:
    """Yields a program in its own process, which ends with the block."""
    context = multiprocessing.get_context("spawn")  # a fork would share what the parent's threads hold
    connection, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, time.time()))
    process.start()
    theirs.close()  # or the process would not notice when this one ends

    def ask(batch: int, seconds: float) -> None:
        with contextlib.suppress(OSError):  # `answer` tells why
            connection.send((batch, seconds))

    def answer() -> tuple[float, float]:
        try:
            received: tuple[float, float] | RexnetError = connection.recv()
        except (EOFError, OSError):
            process.join()
            raise ProcessError(f"{name}: the process that measures it ended with code {process.exitcode}") from None
        if isinstance(received, RexnetError):
            raise received
        return received

    try:
        yield Program(ask, answer)
    finally:
        connection.close()
        process.join()


def _serve(connection: Connection, make: Maker, started: float) -> None:
    """Answers each (batch size, seconds) with images/s and its age until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process by closing
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            run = make()
        except RexnetError as error:
            connection.send(error)
            return
        while True:
            rate = _images_per_s(run, *connection.recv())
            connection.send((rate, time.time() - started))


def _images_per_s(run: Run, batch: int, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while True:
        run(batch)
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return count * batch / elapsed
