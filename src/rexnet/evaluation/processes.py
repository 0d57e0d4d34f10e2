"""Evaluation by several processes that torchrun started: each computes a part of the batches, all get all logits."""

from typing import NamedTuple, TypeVar

import torch
from torch import distributed

from rexnet.errors import ProcessError, first_sentence
from rexnet.system.launcher import detect_launcher, local_and_world_size

T = TypeVar("T")


class Processes(NamedTuple):
    """This process among those of one evaluation; by default it is the only one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that prints and writes."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """Returns the objects of all processes in the order of their ranks, on every process."""
        gathered: list[T] = [mine] * self.world_size
        if self.world_size > 1:
            try:
                distributed.all_gather_object(gathered, mine)
            except RuntimeError as error:
                raise ProcessError(f"another process of this evaluation ended: {first_sentence(error)}") from None
        return gathered


ALONE = Processes()


def join_processes() -> Processes:
    """Connects this process to the others of torchrun, on a GPU of its own; without torchrun, it stays alone.

    A process that fails prints its error and ends; torchrun then ends the others.
    """
    if detect_launcher() != "torchrun" or local_and_world_size()[1] == 1:
        return ALONE
    distributed.init_process_group("gloo")  # logits are gathered in main memory, also on GPUs
    if torch.cuda.is_available():  # with fewer GPUs than processes, some share one
        torch.cuda.set_device(distributed.get_node_local_rank() % torch.cuda.device_count())
    return Processes(distributed.get_rank(), distributed.get_world_size())
