"""Which windows make up which batch, and the loss over all windows of a text."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from train.language.corpora import windows
from train.runtime.distributed import Ranks
from train.runtime.sample_order import stream_order

if TYPE_CHECKING:
    from train.language.transformer_xl import TransformerXL

EVALUATION_STREAMS = 32  # windows at a time
CUDA_EVALUATION_STREAMS = 128  # enough to fill a GPU


def to_windows(tokens: np.ndarray, tgt_len: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Put the windows of a text on a device.

    Returns
    -------
    inputs, targets : Tensor of int64, shape (n_windows, tgt_len)
        See `train.language.corpora.windows`.
    """
    inputs, targets = windows(tokens, tgt_len)
    return torch.tensor(inputs, device=device), torch.tensor(targets, device=device)


@torch.no_grad()
def mean_loss(
    model: "TransformerXL",
    tokens: np.ndarray,
    tgt_len: int,
    forward: Callable[..., Any] | None = None,
    ranks: Ranks | None = None,
) -> float:
    """Mean cross-entropy over a whole text, in nats a word, without dropout.

    Parameters
    ----------
    model : TransformerXL
        If it has a memory, the windows are gone through in `EVALUATION_STREAMS` parallel streams.
    tokens : ndarray of int, shape (n_tokens,)
        Every word but the first is predicted once.
    tgt_len : int
        The last words, too few for a window, make a shorter one.
    forward : callable, optional
        A compiled `model`, called for groups of the usual size.
    ranks : Ranks, optional
        Processes that take turns at the groups of windows; without memory only.

    Returns
    -------
    float
    """
    device, ranks = model.output.weight.device, ranks or Ranks()
    inputs, targets = to_windows(tokens, tgt_len, device)
    rest = torch.tensor(tokens[len(inputs) * tgt_len :], device=device)[None]
    was_training = model.training
    model.eval()
    total, memory = torch.zeros((), dtype=torch.float64, device=device), None
    n_streams = CUDA_EVALUATION_STREAMS if device.type == "cuda" else EVALUATION_STREAMS
    groups = stream_order(len(inputs), n_streams).to(device).split(n_streams)
    for group in groups[ranks.rank :: ranks.size]:
        if not len(group):  # of a text shorter than a window
            break
        if len(group) < n_streams:
            memory = None
        usual = forward if forward is not None and len(group) == n_streams else model
        loss, memory = usual(inputs[group], targets[group], memory)
        total += loss
    if rest.shape[1] > 1 and ranks.rank == 0:
        total += model(rest[:, :-1], rest[:, 1:])[0]
    ranks.sum_(total)
    model.train(was_training)
    return float(total) / (len(tokens) - 1)
