"""Processes that train one model together, each on its share of every batch (started by `torchrun`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from adam_minibatch_noise.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """A process among its peers; `Ranks()` is one alone.

    Attributes
    ----------
    rank : int
        Number of this process, 0 ... size - 1; number 0 writes the files.
    size : int
        How many they are.
    """

    rank: int = 0
    size: int = 1

    def share(self, items: Tensor) -> Tensor:
        """Return this process's contiguous part of the entries of `items`; sizes differ by one at most."""
        return items.tensor_split(self.size)[self.rank]

    def sum_(self, x: Tensor) -> None:
        """Replace `x` by its sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(x)

    def agree(self, mine: bool) -> bool:
        """Return what process 0 says, so that all take the same branch."""
        if self.size == 1:
            return mine
        said = [mine]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every process, in the order of their numbers."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def joined(device_type: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end.

    Parameters
    ----------
    device_type : {"cpu", "cuda"}
        One process a CUDA device, in the order of the local ranks.

    Yields
    ------
    ranks : Ranks
    device : torch.device

    Raises
    ------
    InputError
        More local processes than CUDA devices.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if device_type == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(f"process {local} has no device, allowed: {torch.cuda.device_count()} a machine")
        torch.cuda.set_device(local)
        device = torch.device("cuda", local)
    else:
        device = torch.device("cpu")
    if size == 1:
        yield Ranks(), device
        return
    distributed.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), size), device
    finally:
        distributed.destroy_process_group()
