"""Cross-entropy of a full softmax that never holds all of its logits.

With a vocabulary of 33,278 words the logits of a batch are the largest array of training by far. Here they exist
for a few rows at a time: each chunk of rows goes through logits, loss and gradient while it is in the cache, and
the gradients with respect to hidden states, weight and bias, all small, are kept for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CUDA_ROWS = 4096  # logits of so many words at a time: enough to fill a GPU


def cross_entropy_sum(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of -log softmax(weight hidden_r + bias)[target_r].

    Parameters
    ----------
    hidden : Tensor, shape (n_rows, d_model)
    weight : Tensor, shape (n_tokens, d_model)
    bias : Tensor, shape (n_tokens,)
    targets : Tensor of int64, shape (n_rows,)

    Returns
    -------
    Tensor, shape ()
        In nats.

    Notes
    -----
    Exact: the same as `torch.nn.functional.cross_entropy` up to rounding. Differentiable once.
    """
    return _CrossEntropySum.apply(hidden, weight, bias, targets, torch.is_grad_enabled())


def rows_at_a_time(n_tokens: int, device: torch.device) -> int:
    """Rows of logits in a chunk: on a CPU about four megabytes, but not so few that products become slow."""
    return min(128, max(32, 2**20 // n_tokens)) if device.type == "cpu" else CUDA_ROWS


def _product_dtype(x: Tensor) -> torch.dtype:
    """Type in which autocast would multiply `x`; its own where there is no autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def add_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """Sum of the cross-entropies as in `cross_entropy_sum`, and its gradients at once, outside autograd.

    Parameters
    ----------
    hidden, weight, bias, targets
        See `cross_entropy_sum`.
    gradients : (Tensor, Tensor, Tensor), optional
        With respect to hidden, which is overwritten; to weight and bias, which are added to.

    Returns
    -------
    Tensor, shape ()
        In nats.
    """
    n_rows, low = rows_at_a_time(len(weight), hidden.device), _product_dtype(hidden)
    low_hidden, low_weight, low_bias = hidden.to(low), weight.to(low), bias.to(low)
    losses = []
    for start in range(0, len(hidden), n_rows):
        rows, target = low_hidden[start : start + n_rows], targets[start : start + n_rows, None]
        # full precision from here to d_logits, even where products are in bfloat16; (n_rows, n_tokens)
        logits = functional.linear(rows, low_weight, low_bias).to(weight.dtype)
        p = functional.softmax(logits, dim=1)
        # log of the normaliser: the largest logit has probability exp(max) / Z
        log_z = logits.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()
        losses.append((log_z - logits.gather(1, target)).sum())
        if gradients:
            d_hidden, d_weight, d_bias = gradients
            d_logits = p.scatter_add_(1, target, p.new_full((1, 1), -1.0).expand_as(target))
            d_bias += d_logits.sum(0)
            d_logits = d_logits.to(low)
            d_hidden[start : start + n_rows] = d_logits @ low_weight
            if low == d_weight.dtype:
                d_weight.addmm_(d_logits.T, rows)
            else:
                d_weight += d_logits.T @ rows
    return torch.stack(losses).sum()


def add_stacked_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, gradients: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """As `add_gradients`, for k models at once: every argument has a leading axis for the model.

    Parameters
    ----------
    hidden : Tensor, shape (k, n_rows, d_model)
    weight : Tensor, shape (k, n_tokens, d_model)
    bias : Tensor, shape (k, n_tokens)
    targets : Tensor of int64, shape (k, n_rows)
    gradients : (Tensor, Tensor, Tensor)
        See `add_gradients`.

    Returns
    -------
    Tensor, shape (k,)
        In nats.
    """
    d_hidden, d_weight, d_bias = gradients
    size = max(1, rows_at_a_time(weight.shape[1], hidden.device) // len(hidden))
    losses = torch.zeros(len(hidden), dtype=hidden.dtype, device=hidden.device)
    for rows, target, d_rows in zip(
        hidden.split(size, 1), targets[:, :, None].split(size, 1), d_hidden.split(size, 1), strict=True
    ):
        logits = torch.baddbmm(bias[:, None], rows, weight.mT)
        p = functional.softmax(logits, dim=2)
        log_z = logits.amax(2, keepdim=True) - p.amax(2, keepdim=True).log()
        losses += (log_z - logits.gather(2, target)).sum((1, 2))
        d_logits = p.scatter_add_(2, target, p.new_full((1, 1, 1), -1.0).expand_as(target))
        d_bias += d_logits.sum(1)
        d_rows.copy_(torch.bmm(d_logits, weight))
        d_weight.baddbmm_(d_logits.mT, rows)
    return losses


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, needs_grad: bool
    ) -> Tensor:
        gradients = None
        if needs_grad:
            gradients = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        loss = add_gradients(hidden, weight, bias, targets, gradients)
        if gradients:
            ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * grad, d_weight * grad, d_bias * grad, None, None
