"""The order in which the samples of an epoch are gone through."""

import numpy as np
import torch
from torch import Tensor


def epoch_order(n_samples: int, n_streams: int, shuffle: bool, seed: int, epoch: int) -> Tensor:
    """Order the samples of one epoch; its batch k takes entries k batch_size ... (k + 1) batch_size - 1.

    Parameters
    ----------
    n_samples : int
    n_streams : int
        Samples in a micro-batch; of no effect if `shuffle`.
    shuffle : bool
        A uniformly random permutation, which depends on `seed` and `epoch` alone, or `stream_order`.
    seed, epoch : int >= 0

    Returns
    -------
    Tensor of int64, shape (n_samples,)
    """
    if shuffle:
        return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_samples))
    return stream_order(n_samples, n_streams)


def stream_order(n_samples: int, n_streams: int) -> Tensor:
    """Order windows so that each group of `n_streams` continues the group before it, stream by stream.

    The text is cut into `n_streams` contiguous streams of equally many windows; a group holds one window of each.
    The windows left over come last, as they stand in the text.

    Returns
    -------
    Tensor of int64, shape (n_samples,)
    """
    n_groups = n_samples // n_streams
    in_streams = torch.arange(n_groups * n_streams).view(n_streams, n_groups).T.flatten()
    return torch.cat([in_streams, torch.arange(n_groups * n_streams, n_samples)])
