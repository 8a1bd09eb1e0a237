"""Cross-entropy of a full softmax that never holds all of its logits.

With a vocabulary of 33,278 words the logits of a batch are the largest array of training by far. Here they exist
for a few rows at a time: each chunk of rows goes through logits, loss and gradient while it is in the cache, and
the gradients with respect to hidden states, weight and bias, all small, are kept for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**27}  # logits held at a time


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
        In nats; in `bias`'s type, summed in float64 over the chunks on the CPU.

    Notes
    -----
    Exact: the same as `torch.nn.functional.cross_entropy` up to rounding. Differentiable once.
    """
    return _CrossEntropySum.apply(hidden, weight, bias, targets, torch.is_grad_enabled())


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, needs_grad: bool
    ) -> Tensor:
        n_rows = max(128, CHUNK_ELEMENTS.get(hidden.device.type, 2**27) // weight.shape[0])
        losses = []
        if needs_grad:
            d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
            d_bias = torch.zeros_like(bias)
        for start in range(0, len(hidden), n_rows):
            rows, target = hidden[start : start + n_rows], targets[start : start + n_rows, None]
            # log-probabilities, (n_rows, n_tokens); float32 even where autocast multiplies in bfloat16
            log_p = functional.log_softmax(functional.linear(rows, weight, bias), dim=1, dtype=bias.dtype)
            losses.append(log_p.gather(1, target).sum())
            if needs_grad:
                d_logits = log_p.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=bias.dtype))
                d_bias += d_logits.sum(0)
                torch.mm(d_logits, weight, out=d_hidden[start : start + n_rows])
                d_weight.addmm_(d_logits.T, rows)
        if needs_grad:
            ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return -torch.stack(losses).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * grad, d_weight * grad, d_bias * grad, None, None
