"""Sums over the processes that train one model together, and a handle for their group that copies keep."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from adam_minibatch_noise.optimizers.base import alike, as_real


def sum_over_ranks(
    states: dict[Tensor, dict[str, Any]],
    names: tuple[str, ...],
    counts: list[int],
    group: "dist.ProcessGroup",
) -> list[int]:
    """Add up over all ranks, in place, arrays of the states of parameters; and whole numbers.

    Parameters
    ----------
    states : dict of Tensor to dict
        Parameters and their states; the same, in the same order, on every rank.
    names : tuple of str
        Of the arrays.
    counts : list of int
        As many on every rank.
    group : ProcessGroup

    Returns
    -------
    list of int
        Sums of `counts`, exact.

    Notes
    -----
    One message for the whole numbers, and one of arrays for each device and type.
    """
    numbers = torch.tensor(counts, dtype=torch.int64, device=next(iter(states)).device)
    dist.all_reduce(numbers, group=group)
    for params in alike(states):
        arrays = [as_real(states[param][name]) for param in params for name in names]
        message = torch.cat([array.reshape(-1) for array in arrays])
        dist.all_reduce(message, group=group)
        for array, part in zip(arrays, message.split([array.numel() for array in arrays]), strict=True):
            array.copy_(part.view_as(array))
    return numbers.tolist()


class OfThisProcess:
    """A handle that copies within a process share, and that no other process could use.

    Parameters
    ----------
    value : ProcessGroup
    """

    def __init__(self, value: "dist.ProcessGroup") -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> "OfThisProcess":
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "an optimizer with a process_group cannot be pickled: the group belongs to this process; "
            "save its state_dict(), or set its process_group to None before and to a group after"
        )
