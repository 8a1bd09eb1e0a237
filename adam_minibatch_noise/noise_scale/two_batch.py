"""Gradient noise while a model trains: two squared norms a measurement, and an interval for the noise scale.

Needs SciPy, for Student's distribution.

References
----------
.. [1] S. McCandlish, J. Kaplan, D. Amodei, "An empirical model of large-batch training", 2018, arXiv 1812.06162.
"""

import math
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate as NoiseEstimate
from adam_minibatch_noise.noise_scale.estimate import estimate_noise
from adam_minibatch_noise.noise_scale.fieller import NEEDS_SCIPY, check_level
from adam_minibatch_noise.theory import two_batch_estimates

ROW = 1024
"""Components of a gradient whose norm is taken at a time."""


class TwoBatchEstimator:
    """B_simple from squared gradient norms at two batch sizes, over the last `window` measurements.

    Implements Appendix A.1 of [1]_ for batches drawn without replacement
    (`adam_minibatch_noise.theory.two_batch_estimates`):
    with v(b) = (N/b - 1)/(N - 1), E|G_b|² = |g|² + v(b) tr(Sigma). Numerator and denominator are averaged before one is
    divided by the other. The interval is `fieller_interval` on the means of up to
    20 blocks of consecutive measurements.

    Parameters
    ----------
    n_samples : int
        N, samples the batches are drawn from.
    small_size, big_size : int
        1 <= small_size < big_size <= n_samples. The small batch may be a part of the big one.
    window : int >= 1
        Older measurements are forgotten: their parameters are no longer those of the model.

    Raises
    ------
    InputError
        Sizes out of order, or no whole numbers.
    ImportError
        SciPy is missing: at once, not when the result is asked for.

    Notes
    -----
    `add` neither waits for the device nor moves data off it. The estimate is of the mean |g|² and the mean tr(Sigma)
    over the window: while they change fast it lags behind, by more than its interval knows. Gradients taken with
    dropout count its noise as noise of samples: tr(Sigma) is then larger than that of the per-sample gradients without
    dropout.
    """

    def __init__(self, n_samples: int, small_size: int, big_size: int, window: int = 400) -> None:
        if find_spec("scipy") is None:
            raise ImportError(NEEDS_SCIPY)
        if not 1 <= small_size < big_size <= n_samples:
            raise InputError(
                f"the two batch sizes are {small_size} and {big_size}, allowed: 1 <= small < big <= {n_samples}, "
                "the number of samples"
            )
        sizes = {"n_samples": n_samples, "small_size": small_size, "big_size": big_size, "window": window}
        for name, size in sizes.items():
            if not (1 <= size < math.inf and size == int(size)):
                raise InputError(f"{name} is {size}, allowed: a whole number >= 1")
        self.n_samples, self.small_size, self.big_size = int(n_samples), int(small_size), int(big_size)
        self.n_added = 0
        self._squares = torch.zeros(int(window), 2, dtype=torch.float64)

    def add(self, small_sq_norm: Tensor | float, big_sq_norm: Tensor | float) -> None:
        """Take in one measurement: |G|² of a small batch (or its mean over several) and of a big one.

        Parameters
        ----------
        small_sq_norm, big_sq_norm : Tensor of one element, or float
            See `sq_norm`; the gradients are those of the mean loss of each batch. Infinite or nan in a run that
            diverges: then so is the result, until the window has passed.

        Raises
        ------
        InputError
            A negative number; on a CPU, where asking does not make anything wait.
        """
        values = [
            x if torch.is_tensor(x) else torch.tensor(x, dtype=torch.float64)
            for x in (small_sq_norm, big_sq_norm)
        ]
        row = torch.stack([value.detach().reshape(()) for value in values])
        if row.device.type == "cpu" and (row < 0).any():
            raise InputError(f"the squared norms are {row.tolist()}, allowed: numbers >= 0")
        if self._squares.device != row.device:
            self._squares = self._squares.to(row.device)
        self._squares[self.n_added % len(self._squares)] = row
        self.n_added += 1

    def result(self, level: float = 0.95) -> NoiseEstimate:
        """Estimate from the measurements that are remembered.

        Parameters
        ----------
        level : float, 0 < level < 1
            Of the interval.

        Raises
        ------
        InputError
            A level that is none.
        """
        check_level(level)
        squares = self._squares.cpu().numpy()
        n = min(self.n_added, len(squares))
        squares = np.roll(squares, -(self.n_added % len(squares)), axis=0)[len(squares) - n :]  # oldest first
        squares = squares.reshape(n, 2)
        g_sq, trace = squares.T
        if np.isfinite(squares).all():
            g_sq, trace = two_batch_estimates(
                squares[:, 0], squares[:, 1], self.small_size, self.big_size, self.n_samples
            )
        return estimate_noise(g_sq, trace, level)

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint must hold."""
        sizes = {name: getattr(self, name) for name in ("n_samples", "small_size", "big_size", "n_added")}
        return {**sizes, "squares": self._squares.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        InputError
            It is of an estimator with other sizes.
        """
        here, there = ({**x, "window": len(x["squares"])} for x in (self.state_dict(), state))
        for name in ("n_samples", "small_size", "big_size", "window"):
            if there[name] != here[name]:
                raise InputError(f"{name} of the estimator is {there[name]}, allowed: {here[name]}")
        self.n_added, self._squares = state["n_added"], state["squares"].clone()


def sq_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Squared 2-norm of all components together, on their device.

    Parameters
    ----------
    tensors : iterable of Tensor
        Such as the gradients of all parameters, or one vector of all; dense, at least one.

    Returns
    -------
    Tensor of float64, shape ()
    """
    norms = []
    for tensor in tensors:
        # row by row: a float32 norm over millions of components at once loses 0.2% on a CPU
        flat = tensor.flatten()
        dtype = torch.promote_types(flat.dtype, torch.float32)  # a norm in bfloat16 has two digits
        whole = flat.numel() - flat.numel() % ROW
        norms.append(torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1, dtype=dtype))
        norms.append(torch.linalg.vector_norm(flat[whole:], dtype=dtype)[None])
    if not norms:
        raise InputError("there is no tensor to take the norm of, needed: at least one")
    return torch.cat(norms).double().square().sum()
