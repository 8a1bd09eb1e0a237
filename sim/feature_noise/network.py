r"""What a two-layer CNN makes of sparse samples: margins, errors, alignments, noise scale.

    F_j(W, x) = sum_r [act(<w_jr, x_1>) + act(<w_jr, x_2>)],   act(z) = max(z, 0)^q,   margin = y (F_{+1} - F_{-1}).

Where a power q is asked for, `sim.feature_noise.kernels.SILU` stands for act(z) = z / (1 + exp(-z)).

A sample is misclassified if its margin is not positive: a tie counts as an error. Filters here have the layout of
`sim.feature_noise.kernels`, (patch_length, 1 or 3, n_columns), which `columns` and `filters` convert.
"""

from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.theory import Array
from sim.feature_noise import kernels
from sim.feature_noise.data import Samples
from sim.monte_carlo.simd import aligned_zeros, zero_vector

LANES = 8
"""Columns are filled up to a multiple of this."""
MAX_LANES = 64


def columns(weights: Array) -> Array:
    """Turn filters (2, n_filters, patch_length) into a state (patch_length, 3, n_columns) with moments 0."""
    n_filters, length = weights.shape[1:]
    state = aligned_zeros((length, 3, -(-2 * n_filters // LANES) * LANES))
    state[:, 0, : 2 * n_filters] = weights.reshape(2 * n_filters, length).T
    return state


def filters(state: Array, n_filters: int) -> Array:
    """Return the filters of a state, (2, n_filters, patch_length)."""
    return np.ascontiguousarray(state[:, 0, : 2 * n_filters].T).reshape(2, n_filters, len(state))


def signs(n_filters: int) -> Array:
    """Class of each column, +1.0 or -1.0; 0.0 for those that fill up."""
    sign = np.zeros(-(-2 * n_filters // LANES) * LANES)
    sign[:n_filters], sign[n_filters : 2 * n_filters] = 1, -1
    return sign


def wide_vector(n_columns: int):
    """Make the widest vector of zeros whose lanes divide the columns."""
    lanes = max(k for k in range(LANES, MAX_LANES + 1, LANES) if n_columns % k == 0)
    return zero_vector(lanes)


@dataclass(frozen=True)
class Measurement:
    """The state of a run at one time.

    Attributes
    ----------
    loss : float
        Mean training loss, without weight decay.
    train_error, test_error : float
        Shares of samples whose margin is not positive; nan without test samples.
    signal_plus, signal_minus : float
        max_r <w_jr, j v> for j = +1, -1.
    noise : float
        min_i max_r <w_{y_i r}, xi_i> over the training samples.
    noise_scale : float
        B_simple = tr(Sigma)/|g|^2 of the training loss, in samples.
    """

    loss: float
    train_error: float
    test_error: float
    signal_plus: float
    signal_minus: float
    noise: float
    noise_scale: float


def responses(state: Array, samples: Samples) -> tuple[Array, Array]:
    """<w_f, xi_i> and <w_f, y_i v>, (n_samples, n_columns) each."""
    noise = np.empty((samples.n_samples, state.shape[2]))
    wide = wide_vector(state.shape[2])
    kernels.dot_patches(state, samples.places, samples.entries, 0, samples.n_samples, noise, wide)
    return noise, samples.labels[:, None] * state[0, 0]


def activation(z: Array, q: int) -> Array:
    """act(z), elementwise."""
    return z * _share_on(z) if q == kernels.SILU else np.maximum(z, 0) ** q


def activation_slope(z: Array, q: int) -> Array:
    """act'(z), elementwise."""
    if q != kernels.SILU:
        return q * np.maximum(z, 0) ** (q - 1)
    on = _share_on(z)
    return on + z * (on * (1 - on))


def _share_on(z):
    """1 / (1 + exp(-z)), without overflow."""
    return 0.5 * (1 + np.tanh(z / 2))


def margins(state: Array, samples: Samples, sign: Array, q: int) -> Array:
    """Margin y (F_{+1} - F_{-1}) of every sample, (n_samples,)."""
    total = sum(activation(response, q) for response in responses(state, samples))
    return samples.labels * (total @ sign)


def mean_gradient(state: Array, samples: Samples, sign: Array, q: int, batch: np.ndarray) -> Array:
    """Gradient of the mean loss over a batch, by the kernel of the run itself, (patch_length, n_columns)."""
    d, _, n_columns = state.shape
    gradient, response = aligned_zeros((d, n_columns)), np.empty((2, n_columns))
    data = samples.places, samples.entries, samples.labels
    kernels.add_gradient(
        state, data, batch, sign, q, np.arange(d), gradient, response, wide_vector(n_columns)
    )
    return gradient


def noise_scale(state: Array, samples: Samples, sign: Array, q: int) -> float:
    """B_simple = tr(Sigma)/|g|^2 over the samples; nan where the gradient is 0."""
    noise, signal = responses(state, samples)
    doubt = np.exp(-np.logaddexp(0, margins(state, samples, sign, q)))
    by_noise, by_signal = (
        np.abs(sign) * activation_slope(part, q) * doubt[:, None] for part in (noise, signal)
    )
    overlap = 2 * samples.entries[:, :1] * samples.labels[:, None]  # <xi, y v> twice
    squares = by_noise**2 * (samples.entries**2).sum(axis=1, keepdims=True) + by_signal**2
    mean_square = (squares + overlap * by_noise * by_signal).sum() / samples.n_samples  # of |g_i|^2
    everyone = np.arange(samples.n_samples, dtype=np.int32)
    square = (mean_gradient(state, samples, sign, q, everyone) ** 2).sum()
    return float((mean_square - square) / square) if square > 0 else float("nan")


def measure(state: Array, train: Samples, test: Samples | None, n_filters: int, q: int) -> Measurement:
    """Measure a network on its training and its test samples.

    Parameters
    ----------
    state : (patch_length, n_columns) ndarray
        Its filters.
    train : Samples
    test : Samples or None
    n_filters, q : int

    Returns
    -------
    Measurement
    """
    sign = signs(n_filters)
    margin = margins(state, train, sign, q)
    noise, _ = responses(state, train)
    own = np.where(sign == train.labels[:, None], noise, -np.inf)
    return Measurement(
        loss=float(np.logaddexp(0, -margin).mean()),
        train_error=_error(margin),
        test_error=_error(margins(state, test, sign, q)) if test else float("nan"),
        signal_plus=float(state[0, 0, sign > 0].max()),
        signal_minus=float((-state[0, 0, sign < 0]).max()),
        noise=float(own.max(axis=1).min()),
        noise_scale=noise_scale(state, train, sign, q),
    )


def _error(margin):
    """Share of samples that are not on the right side; one whose margin is no number is not."""
    return float((~(margin > 0)).mean())
