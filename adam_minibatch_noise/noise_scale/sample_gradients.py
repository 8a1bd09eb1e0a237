"""Gradient noise at fixed parameters, exactly: the gradients of all samples one by one, never all at once.

References
----------
.. [1] S. McCandlish, J. Kaplan, D. Amodei, "An empirical model of large-batch training", 2018, arXiv 1812.06162.
.. [2] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from adam_minibatch_noise.errors import InputError

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of the quantiles over components."""
FAR = 10.0
"""A component counts as far from "one constant" beyond this factor."""
CHUNK_ELEMENTS = {"cpu": 2**22, "cuda": 2**30}
"""Elements of per-sample gradients held at a time, unless the caller says otherwise: a CPU wants them in its cache."""


@dataclass(frozen=True)
class GradientMoments:
    """Sums over all samples r of their gradients, in the order of the parameters that have one.

    Attributes
    ----------
    n_samples : int
    total, total_sq : Tensor of float64, shape (n_params,)
        Σ_r g_rj and Σ_r g_rj² for each component j; g_r is the gradient of the loss of sample r. A complex parameter
        has two components an element.
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
    component_quantiles : ndarray, shape (5,)
        Quantiles over components j of Sigma_jj / g_j², in samples: the smallest value that is not below the share
        0.05, 0.25, 0.5, 0.75 and 0.95 of them. The theory of [2]_ puts one constant, `b_simple`, in place of all of
        them.
    share_below, share_above : float
        Share of components with Sigma_jj / g_j² under a tenth of `b_simple`, and over ten times `b_simple`.
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


def gradient_moments(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    chunk: int = 0,
    progress: Callable[[int], object] = lambda n: None,
) -> GradientMoments:
    """Sum the gradients of all samples and their squares, with the model in evaluation mode: without dropout.

    Parameters
    ----------
    model : Module
        Any. Parameters that require no gradient are left out. It is left as it was.
    inputs, targets : Tensor, shape (n_samples, ...)
        Sample r is row r of both.
    loss : callable
        `loss(model(inputs[r : r + 1]), targets[r : r + 1])` is the loss of sample r, one number: any loss that is a
        mean over a batch, such as `torch.nn.functional.cross_entropy`.
    chunk : int
        Samples at a time: memory is that of so many gradients. 0: as many as fit into a CPU's cache, or 4 GiB of a
        GPU. 1: a plain backward pass a sample, for models that `torch.func.vmap` cannot map over samples.
    progress : callable
        Called with the number of samples of each chunk that is done.

    Returns
    -------
    GradientMoments
        Exact, up to the rounding of the gradients: float32 at least; sums over chunks are float64.

    Raises
    ------
    InputError
        No samples, as many targets as inputs missing, no parameter to differentiate by, a loss of several numbers.

    Notes
    -----
    A layer that mixes samples has no gradient of a single one: batch normalisation is taken with its running means.
    """
    params: dict[str, Tensor] = {name: each for name, each in model.named_parameters() if each.requires_grad}
    _check(inputs, targets, params, chunk)
    rest = {name: buffer.clone() for name, buffer in model.named_buffers()}
    total = {name: _zeros(param) for name, param in params.items()}
    total_sq = {name: _zeros(param) for name, param in params.items()}

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        value = loss(functional_call(model, params | rest, (x[None],)), y[None])
        if value.numel() != 1:
            raise InputError(f"the loss of a sample has shape {tuple(value.shape)}, allowed: a single number")
        return value.reshape(())

    def one_by_one(params: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with torch.enable_grad():
            found = torch.autograd.grad(
                loss_of(params, x[0], y[0]), list(params.values()), materialize_grads=True
            )
        return {name: entry[None] for name, entry in zip(params, found, strict=True)}

    chunk = chunk or chunk_size(inputs.device, sum(param.numel() for param in params.values()))
    per_sample = one_by_one
    if chunk > 1:
        per_sample = vmap(grad(loss_of), in_dims=(None, 0, 0))
        params = {name: param.detach() for name, param in params.items()}
    with evaluating(model):
        for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot all be mapped over samples
                found = per_sample(params, x, y)
            for name, entry in found.items():
                add(total[name], total_sq[name], entry)
            progress(len(x))
    return GradientMoments(len(inputs), flattened(total), flattened(total_sq))


def _check(inputs: Tensor, targets: Tensor, params: dict[str, Tensor], chunk: int) -> None:
    if not len(inputs) or len(inputs) != len(targets):
        raise InputError(
            f"inputs and targets have {len(inputs)} and {len(targets)} rows, allowed: as many, >= 1"
        )
    if not params:
        raise InputError("no parameter of the model requires a gradient, needed: at least one")
    if not (0 <= chunk < math.inf and chunk == int(chunk)):
        raise InputError(f"chunk is {chunk}, allowed: a whole number >= 0")


def _zeros(param: Tensor) -> Tensor:
    shape = (*param.shape, 2) if param.is_complex() else param.shape
    return torch.zeros(shape, dtype=torch.float64, device=param.device)


def chunk_size(device: torch.device, n_params: int) -> int:
    """Return how many samples' gradients of so many parameters a device holds at a time."""
    return max(1, CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cuda"]) // n_params)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every part of a model into evaluation mode for a block, and then back into the mode that it had."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def add(total: Tensor, total_sq: Tensor, gradients: Tensor) -> None:
    """Add the gradients of a chunk of samples, and their squares, to the sums in place.

    Parameters
    ----------
    total, total_sq : Tensor of float64
    gradients : Tensor, shape (chunk, ...)
        Used up: its entries may be squared in place.
    """
    if gradients.is_complex():
        gradients = torch.view_as_real(gradients.resolve_conj())
    gradients = gradients.to(torch.promote_types(gradients.dtype, torch.float32))
    total += gradients.sum(0)
    if 0 in gradients.stride():  # one zero that stands for all, of a parameter that is not used
        gradients = gradients.clone()
    total_sq += gradients.square_().sum(0)


def flattened(parts: dict[str, Tensor]) -> Tensor:
    """Return all components one after the other, (n_params,)."""
    return torch.cat([part.flatten() for part in parts.values()])


def gradient_noise(moments: GradientMoments) -> GradientNoise:
    """Reduce the sums over samples to norms, the noise scale, and the spread of Sigma_jj / g_j².

    Parameters
    ----------
    moments : GradientMoments

    Returns
    -------
    GradientNoise
        Infinite or nan where the moments are, or where the gradient is zero.
    """
    g = moments.total.cpu().numpy() / moments.n_samples
    mean_sq = moments.total_sq.cpu().numpy() / moments.n_samples
    g_sq = g * g
    sigma = np.maximum(mean_sq - g_sq, 0.0)  # Sigma_jj; rounding may leave it just below zero
    grad_sq_norm, tr_sigma = g_sq.sum(), sigma.sum()
    moved = mean_sq != 0  # also where it is nan
    with np.errstate(divide="ignore", invalid="ignore"):
        b_simple = float(tr_sigma / grad_sq_norm)
        ratio = sigma[moved] / g_sq[moved]  # infinite where samples cancel
        quantiles = np.quantile(ratio, LEVELS, method="inverted_cdf") if len(ratio) else np.full(5, np.nan)
    n_moved = max(len(ratio), 1)
    return GradientNoise(
        n_samples=moments.n_samples,
        n_params=len(g),
        grad_sq_norm=float(grad_sq_norm),
        grad_l1=float(np.abs(g).sum()),
        tr_sigma=float(tr_sigma),
        b_simple=b_simple,
        component_quantiles=quantiles,
        share_below=float(np.count_nonzero(ratio < b_simple / FAR) / n_moved),
        share_above=float(np.count_nonzero(ratio > b_simple * FAR) / n_moved),
        share_zero=float(1 - np.count_nonzero(moved) / len(g)),
    )
