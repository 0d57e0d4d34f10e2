"""Several processes that measure together, as torchrun starts them: each a part of the images, all the same numbers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast

import torch
from torch import distributed

from rexnet.errors import ConfigError, ProcessError, RexnetError, first_sentence, user_message
from rexnet.system.launcher import detect_launcher, local_and_world_size

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # one that died is noticed at once; the first may draw heat maps while the others wait


class Processes(NamedTuple):
    """This process among those that measure together; by default it is alone."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that prints and writes."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """What each process brings, in the order of their ranks, on every one of them, which waits for all others."""
        return [mine] if self.world_size == 1 else cast(list[T], self._exchange(mine, None))

    def _exchange(self, mine: object, fault: RexnetError | None) -> list[object]:
        """Every process does so equally often until one of them brings a fault, which ends it for all.

        Raises:
            _Known: a process brought a fault, or one is gone.
        """
        brought: list[tuple[object, RexnetError | None]] = [(None, None)] * self.world_size
        try:
            distributed.all_gather_object(brought, (mine, fault))
        except RuntimeError as error:
            lost = ProcessError(f"another process of this evaluation cannot be reached: {first_sentence(error)}")
            raise _Known(lost) from None
        first = next((fault for _, fault in brought if fault is not None), None)
        if first is not None:
            raise _Known(first)
        return [values for values, _ in brought]

    def tell(self, fault: RexnetError) -> RexnetError:
        """Ends the work of the others; gives the fault that all will speak of, for they may have told one, too."""
        try:
            self._exchange(None, fault)
        except _Known as known:
            return known.fault
        raise AssertionError("a fault ends the exchange")


ALONE = Processes()


class _Known(Exception):  # noqa: N818 - the fault in it is the error
    """Carries a fault that all processes know of."""

    def __init__(self, fault: RexnetError) -> None:
        super().__init__(str(fault))
        self.fault = fault


@contextmanager
def joined() -> Iterator[Processes]:
    """This process with the others that torchrun started, on a device of its own; alone where it started no others.

    What one of them finds wrong, at whatever point, ends all with the same exit code, and the first alone says it.

    Raises:
        RexnetError: on the first process, whatever any of them raised.
        SystemExit: on the others, with the same exit code.
    """
    if detect_launcher() not in ("torchrun", "kubeflow") or local_and_world_size()[1] == 1:
        yield Processes()
        return
    processes = _join()
    try:
        yield processes
        processes.gather(None)  # the first may still fail while it writes
    except _Known as known:
        fault = known.fault
    except KeyboardInterrupt:
        if processes.is_first:
            raise
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        told = _in_words(error)
        fault = processes.tell(told or ProcessError(f"process {processes.rank} failed; what it said stands above"))
        if told is None:
            raise
    else:
        distributed.destroy_process_group()
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, once one has ended: each has its own exit code
    if processes.is_first:
        raise fault
    raise SystemExit(fault.exit_code)


def _join() -> Processes:
    """Meets the other processes at the address that torchrun told."""
    if torch.cuda.is_available():  # with fewer GPUs than processes, some share one
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    # What is exchanged lies in main memory, so that gloo does on GPUs, too.
    distributed.init_process_group("gloo", timeout=PATIENCE)
    return Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def _in_words(error: Exception) -> RexnetError | None:
    """An error that is written for the user, fit to be sent to other processes; None for one of the program."""
    if isinstance(error, RexnetError):
        return type(error)(user_message(error))
    if isinstance(error, OSError) and error.filename is not None:
        return ConfigError(f"{error.filename}: {error.strerror}")
    return None
