"""Gradient noise at fixed parameters, exactly: the gradients of all windows one by one, never all at once.

References
----------
.. [1] S. McCandlish, J. Kaplan, D. Amodei, "An empirical model of large-batch training", 2018, arXiv 1812.06162.
.. [2] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from adam_minibatch_noise.theory import gradient_noise_scale
from train.language.transformer_xl import TransformerXL

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of the quantiles over components."""
FAR = 10.0
"""A component counts as far from "one constant" beyond this factor."""
CHUNK_ELEMENTS = {"cpu": 2**22, "cuda": 2**30}
"""Elements of per-sample gradients held at a time, unless the caller says otherwise: a CPU wants them in its cache."""
EMBEDDING = "word_embedding.weight"


@dataclass(frozen=True)
class GradientMoments:
    """Sums over all samples r of their gradients, in the order of `TransformerXL.parameters`.

    Attributes
    ----------
    n_samples : int
    total, total_sq : Tensor of float64, shape (n_params,)
        Σ_r g_rj and Σ_r g_rj² for each component j; g_r is the gradient of the mean cross-entropy, in nats, of the
        words of window r.
    """

    n_samples: int
    total: Tensor
    total_sq: Tensor


@dataclass(frozen=True)
class GradientNoise:
    """How far single samples' gradients scatter around the full-batch gradient g, with covariance Sigma.

    Attributes
    ----------
    n_samples, n_params : int
    grad_sq_norm, grad_l1 : float
        |g|² and |g|₁.
    tr_sigma : float
        Trace of Sigma = (1/N) Σ_r (g_r - g)(g_r - g)ᵀ.
    b_simple : float
        tr(Sigma) / |g|², in samples: Eq. (2.9) of [1]_.
    component_quantiles : ndarray, shape (len(LEVELS),)
        Quantiles over components j of Sigma_jj / g_j², in samples: the smallest value that is not below the share
        `LEVELS` of them. The theory of [2]_ puts one constant, `b_simple`, in place of all of them.
    share_below, share_above : float
        Share of components with Sigma_jj / g_j² under `b_simple` / `FAR`, and over `FAR` `b_simple`.
    share_zero : float
        Share of components whose gradient is zero in every sample; quantiles and shares above leave them out.
    """

    n_samples: int
    n_params: int
    grad_sq_norm: float
    grad_l1: float
    tr_sigma: float
    b_simple: float
    component_quantiles: np.ndarray
    share_below: float
    share_above: float
    share_zero: float


class _WindowLoss(nn.Module):
    """Mean cross-entropy of one window through plain operations, which `torch.func` can map over windows."""

    def __init__(self, model: TransformerXL) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self.model.logits(inputs[None])[0], targets)


def gradient_moments(
    model: TransformerXL,
    inputs: Tensor,
    targets: Tensor,
    chunk: int = 0,
    progress: Callable[[int], object] = lambda n: None,
) -> GradientMoments:
    """Sum the gradients of all windows and their squares, without dropout.

    Parameters
    ----------
    model : TransformerXL
        Without memory. Its type is that of the gradients; their sums over chunks are float64.
    inputs, targets : Tensor of int64, shape (n_samples, tgt_len)
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
    was_training = model.training
    model.eval()
    params = {f"model.{name}": param.detach() for name, param in model.named_parameters()}
    sums = {name: torch.zeros_like(param, dtype=torch.float64) for name, param in params.items()}
    sums_sq = {name: torch.zeros_like(entry) for name, entry in sums.items()}
    table, window_loss = params.pop(f"model.{EMBEDDING}"), _WindowLoss(model)

    def loss(params: dict[str, Tensor], own_table: Tensor, words: Tensor, targets: Tensor) -> Tensor:
        return functional_call(window_loss, params | {f"model.{EMBEDDING}": own_table}, (words, targets))

    gradients = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0, 0, 0))
    n_params = sum(entry.numel() for entry in params.values())
    chunk = chunk or max(1, CHUNK_ELEMENTS[inputs.device.type] // n_params)
    for words, target in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        first = (words[:, :, None] == words[:, None]).int().argmax(2)  # (chunk, tgt_len), in the window
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot all be mapped over windows
            others, rows = gradients(params, table[words], first, target)
        for name, entry in others.items():  # (chunk, *shape of the parameter)
            sums[name] += entry.sum(0)
            sums_sq[name] += entry.square_().sum(0)
        # words again later in a window have a row of zeros, so each word adds its whole gradient once
        rows = rows.flatten(0, 1).double()
        sums[f"model.{EMBEDDING}"].index_add_(0, words.flatten(), rows)
        sums_sq[f"model.{EMBEDDING}"].index_add_(0, words.flatten(), rows.square_())
        progress(len(words))
    model.train(was_training)
    flat = (torch.cat([entry.flatten() for entry in part.values()]) for part in (sums, sums_sq))
    return GradientMoments(len(inputs), *flat)


def gradient_noise(moments: GradientMoments) -> GradientNoise:
    """Reduce the sums over samples to norms, the noise scale, and the spread of Sigma_jj / g_j².

    Parameters
    ----------
    moments : GradientMoments
    """
    g = moments.total.cpu().numpy() / moments.n_samples
    mean_sq = moments.total_sq.cpu().numpy() / moments.n_samples
    g_sq = g * g
    sigma = np.maximum(mean_sq - g_sq, 0.0)  # Sigma_jj; rounding may leave it just below zero
    grad_sq_norm, tr_sigma = float(g_sq.sum()), float(sigma.sum())
    moved = mean_sq != 0  # also where it is nan
    with np.errstate(divide="ignore", invalid="ignore"):
        b_simple = float(gradient_noise_scale(tr_sigma, grad_sq_norm))
        ratio = sigma[moved] / g_sq[moved]  # infinite where samples cancel
        quantiles = np.quantile(ratio, LEVELS, method="inverted_cdf") if len(ratio) else np.full(5, np.nan)
    n_moved = max(len(ratio), 1)
    return GradientNoise(
        n_samples=moments.n_samples,
        n_params=len(g),
        grad_sq_norm=grad_sq_norm,
        grad_l1=float(np.abs(g).sum()),
        tr_sigma=tr_sigma,
        b_simple=b_simple,
        component_quantiles=quantiles,
        share_below=float(np.count_nonzero(ratio < b_simple / FAR) / n_moved),
        share_above=float(np.count_nonzero(ratio > b_simple * FAR) / n_moved),
        share_zero=float(1 - np.count_nonzero(moved) / len(g)),
    )
