"""Gradients of the Transformer-XL window by window: as `gradient_moments` of any model, without the full embeddings."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from adam_minibatch_noise.noise_scale.sample_gradients import (
    GradientMoments,
    add,
    chunk_size,
    evaluating,
    flattened,
)
from train.language.transformer_xl import TransformerXL

EMBEDDING = "word_embedding.weight"


class _WindowLoss(nn.Module):
    """Mean cross-entropy of one window through plain operations, which `torch.func` can map over windows."""

    def __init__(self, model: TransformerXL) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self.model.logits(inputs[None])[0], targets)


def window_moments(
    model: TransformerXL,
    inputs: Tensor,
    targets: Tensor,
    chunk: int = 0,
    progress: Callable[[int], object] = lambda n: None,
) -> GradientMoments:
    """Sum the gradients of all windows and their squares, without dropout, in the order of `model.parameters`.

    Parameters
    ----------
    model : TransformerXL
        Without memory. Its type is that of the gradients; their sums over chunks are float64.
    inputs, targets : Tensor of int64, shape (n_samples, tgt_len)
        The loss of a window is the mean cross-entropy of its words, in nats.
    chunk : int
        Windows at a time: memory is that of so many gradients. 0: those of about `CHUNK_ELEMENTS` elements.
    progress : callable
        Called with the number of windows of each chunk that is done.

    Notes
    -----
    Exact, up to rounding: every window counts. Equal to single backward passes through `train.language.cross_entropy`,
    see `test_gradients_match_single_backward_passes`.

    A window reaches only the embeddings of its own words. Each gets a table of those alone, (tgt_len, d_model), in
    which a word stands where it comes first; the full table of a sample, nearly all zeros, is never made.
    """
    params = {f"model.{name}": param.detach() for name, param in model.named_parameters()}
    sums = {name: torch.zeros_like(param, dtype=torch.float64) for name, param in params.items()}
    sums_sq = {name: torch.zeros_like(entry) for name, entry in sums.items()}
    table, window_loss = params.pop(f"model.{EMBEDDING}"), _WindowLoss(model)

    def loss(params: dict[str, Tensor], own_table: Tensor, words: Tensor, targets: Tensor) -> Tensor:
        return functional_call(window_loss, params | {f"model.{EMBEDDING}": own_table}, (words, targets))

    gradients = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0, 0, 0))
    chunk = chunk or chunk_size(inputs.device, sum(entry.numel() for entry in params.values()))
    with evaluating(model):
        for words, target in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            first = (words[:, :, None] == words[:, None]).int().argmax(2)  # (chunk, tgt_len), in the window
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot all be mapped over windows
                others, rows = gradients(params, table[words], first, target)
            for name, entry in others.items():  # (chunk, *shape of the parameter)
                add(sums[name], sums_sq[name], entry)
            # words again later in a window have a row of zeros, so each word adds its whole gradient once
            rows = rows.flatten(0, 1).double()
            sums[f"model.{EMBEDDING}"].index_add_(0, words.flatten(), rows)
            sums_sq[f"model.{EMBEDDING}"].index_add_(0, words.flatten(), rows.square_())
            progress(len(words))
    return GradientMoments(len(inputs), flattened(sums), flattened(sums_sq))
