r"""A two-layer convolutional network on two patches, signal and noise: derivatives sample by sample.

The data model and the network of [1]_. Data and weights are separate: `make_data` draws samples, `make_weights`
a network, and every other function takes both. Parameters are the filters w_{j,r}, an array of shape
(2, n_filters, patch_length) whose first axis is the class j = +1, -1.

    F_j(W, x) = sum_r [act(<w_jr, x_1>) + act(<w_jr, x_2>)],   act(z) = max(z, 0)^q,
    loss      = -log softmax_y(F) = log(1 + exp(-margin)),     margin = y (F_{+1} - F_{-1}).

Longer than the other modules because data and network, neither of use alone, stand side by side.

References
----------
.. [1] Tang, Zhang, Cao and Zou, "Understanding the Generalization of Stochastic Gradient Adam in Learning
   Neural Networks", arXiv:2510.11354, 2025.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array

CLASS_SIGNS = np.array([1.0, -1.0])
"""The class j of each slice of the weights."""
MIN_POWER = 3
"""Smallest power q whose activation has a continuous second derivative."""


@dataclass(frozen=True)
class CnnData:
    """Labelled pairs of patches, one the signal y v with v = e_1, the other noise.

    Attributes
    ----------
    patches : (n_samples, 2, patch_length) ndarray
        x_1 and x_2.
    labels : (n_samples,) ndarray
        y, +1.0 or -1.0.
    signal_patch : (n_samples,) ndarray of int
        Which of the two patches is the signal, 0 or 1.
    """

    patches: Array
    labels: Array
    signal_patch: np.ndarray

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def patch_length(self) -> int:
        """Length of a patch."""
        return self.patches.shape[2]

    @property
    def noise_patches(self) -> Array:
        """The noise patch xi of every sample, (n_samples, patch_length)."""
        return self.patches[np.arange(self.n_samples), 1 - self.signal_patch]

    def take(self, samples: np.ndarray) -> "CnnData":
        """Return the samples with the given indices."""
        return CnnData(self.patches[samples], self.labels[samples], self.signal_patch[samples])


def make_data(
    n_samples: int, patch_length: int, n_noise: int, noise_std: float, feature_noise: float, seed: int
) -> CnnData:
    """Draw samples: a signal patch y e_1 and a sparse noise patch, in random order.

    Implements the data model of [1]_: the noise patch has `n_noise` coordinates, chosen at random among all but
    the first, drawn from N(0, noise_std^2), and -feature_noise y as its first coordinate.

    Parameters
    ----------
    n_samples : int
        >= 1.
    patch_length : int
        d >= 2.
    n_noise : int
        s, 0 to patch_length - 1.
    noise_std : float
        sigma_p >= 0.
    feature_noise : float
        alpha; in [1]_ between 0 and 1.
    seed : int
        >= 0.

    Returns
    -------
    CnnData

    Raises
    ------
    InputError
        If `patch_length` or `n_noise` is outside its range.
    """
    if patch_length < 2:
        raise InputError(f"patch_length is {patch_length}, allowed: >= 2")
    if not 0 <= n_noise < patch_length:
        raise InputError(f"n_noise is {n_noise}, allowed: 0 to patch_length - 1 = {patch_length - 1}")
    rng = np.random.default_rng([seed, 2])
    labels = rng.choice([-1.0, 1.0], n_samples)
    noise = np.zeros((n_samples, patch_length))
    others = np.tile(np.arange(1, patch_length), (n_samples, 1))
    support = rng.permuted(others, axis=1)[:, :n_noise]  # (n_samples, n_noise), no coordinate twice
    np.put_along_axis(noise, support, noise_std * rng.standard_normal((n_samples, n_noise)), axis=1)
    noise[:, 0] = -feature_noise * labels
    signal_patch = rng.integers(2, size=n_samples)
    patches = np.zeros((n_samples, 2, patch_length))
    every = np.arange(n_samples)
    patches[every, signal_patch, 0] = labels
    patches[every, 1 - signal_patch] = noise
    return CnnData(patches, labels, signal_patch)


def make_weights(n_filters: int, patch_length: int, init_std: float, seed: int) -> Array:
    """Draw the filters from N(0, init_std^2).

    Parameters
    ----------
    n_filters : int
        Filters a class, >= 1.
    patch_length : int
        >= 1.
    init_std : float
        sigma_0 >= 0.
    seed : int
        >= 0.

    Returns
    -------
    (2, n_filters, patch_length) ndarray
    """
    return init_std * np.random.default_rng([seed, 3]).standard_normal((2, n_filters, patch_length))


# -------------------------------------------------------------------------------- values and derivatives
def margins(weights: Array, data: CnnData, q: int = 3) -> Array:
    """Margin y (F_{+1} - F_{-1}) of every sample; negative: misclassified.

    Parameters
    ----------
    weights : (2, n_filters, patch_length) ndarray
    data : CnnData
    q : int
        Power of the activation, >= `MIN_POWER`.

    Returns
    -------
    (n_samples,) ndarray

    Raises
    ------
    InputError
        If `q` is too small, the patches and the filters differ in length, or numbers grow beyond float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        activations = np.maximum(_responses(weights, data, q), 0) ** q
        margins = np.einsum("njrp,nj->n", activations, _signs(data))
    _check_finite(q, margins)
    return margins


def losses(weights: Array, data: CnnData, q: int = 3) -> Array:
    """log(1 + exp(-margin)) of every sample, (n_samples,); no overflow at any margin.

    Parameters and errors as in `margins`.
    """
    return np.logaddexp(0, -margins(weights, data, q))


def gradients(weights: Array, data: CnnData, q: int = 3) -> Array:
    """Gradient of every sample's loss, -p grad margin with p = 1/(1 + exp(margin)).

    Parameters and errors as in `margins`.

    Returns
    -------
    (n_samples, 2, n_filters, patch_length) ndarray
    """
    doubt, _, slopes, _ = _margin_derivatives(weights, data, q)
    return -doubt[:, None, None, None] * slopes


def hessian_vector_products(weights: Array, vectors: Array, data: CnnData, q: int = 3) -> Array:
    """Hessian of every sample's loss times a vector, analytically.

    hess loss . v = p (1-p) <grad margin, v> grad margin - p hess margin . v, and the Hessian of the margin is
    block diagonal: y j sum_p act''(<w_jr, x_p>) x_p x_p^T for filter (j, r).

    Parameters
    ----------
    weights : (2, n_filters, patch_length) ndarray
    vectors : (2, n_filters, patch_length) or (n_samples, 2, n_filters, patch_length) ndarray
        One vector for all samples, or one each.
    data : CnnData
    q : int
        As in `margins`.

    Returns
    -------
    (n_samples, 2, n_filters, patch_length) ndarray

    Raises
    ------
    InputError
        As `margins`.
    """
    doubt, trust, slopes, bends = _margin_derivatives(weights, data, q)
    vectors = np.broadcast_to(vectors, slopes.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        along = np.einsum("njrl,njrl->n", slopes, vectors)
        moved = np.einsum("npl,njrl->njrp", data.patches, vectors)  # <v_jr, x_p>
        curved = np.einsum("njrp,npl->njrl", bends * moved, data.patches)
        outer = (doubt * trust * along)[:, None, None, None] * slopes
        products = outer - doubt[:, None, None, None] * curved
    _check_finite(q, products)
    return products


def gradients_and_hessians(weights: Array, data: CnnData, q: int = 3) -> tuple[Array, Array]:
    """Gradient and full Hessian of every sample's loss, for small networks; Numba.

    Parameters and errors as in `margins`.

    Returns
    -------
    gradients : (n_samples, n_params) ndarray
        Flattened; n_params = 2 n_filters patch_length.
    hessians : (n_samples, n_params, n_params) ndarray
    """
    _check(weights, data, q)
    n_params = weights.size
    gradients = np.empty((data.n_samples, n_params))
    hessians = np.empty((data.n_samples, n_params, n_params))
    filters = np.ascontiguousarray(weights).reshape(-1, weights.shape[2])
    with np.errstate(over="ignore", invalid="ignore"):
        _gradients_and_hessians(filters, data.patches, data.labels, q, gradients, hessians)
    _check_finite(q, gradients, hessians)
    return gradients, hessians


def _check(weights, data, q):
    if q < MIN_POWER:
        raise InputError(f"q is {q}, allowed: a whole number >= {MIN_POWER}")
    if weights.shape[2] != data.patch_length:
        raise InputError(
            f"filters have length {weights.shape[2]}, allowed: that of the patches, {data.patch_length}"
        )


def _check_finite(q, *results):
    if not all(np.isfinite(result).all() for result in results):
        raise InputError(
            f"the loss of the network or a derivative is not a finite number, allowed: weights w and patches x "
            f"with <w, x>^{q} and the derivatives below 1.8e308"
        )


def _responses(weights, data, q):
    """<w_jr, x_p>, (n_samples, 2, n_filters, 2)."""
    _check(weights, data, q)
    return np.einsum("jrl,npl->njrp", weights, data.patches)


def _signs(data):
    """Signs y j, (n_samples, 2)."""
    return data.labels[:, None] * CLASS_SIGNS


def _margin_derivatives(weights, data, q):
    """Return p = 1/(1 + exp(margin)), 1 - p, grad margin, and y j act''(<w_jr, x_p>) of every sample."""
    margin = margins(weights, data, q)
    signs = _signs(data)[:, :, None, None]
    with np.errstate(over="ignore", invalid="ignore"):
        active = np.maximum(_responses(weights, data, q), 0)
        slopes = np.einsum("njrp,npl->njrl", signs * q * active ** (q - 1), data.patches)
        bends = signs * q * (q - 1) * active ** (q - 2)
    _check_finite(q, slopes, bends)
    return np.exp(-np.logaddexp(0, margin)), np.exp(-np.logaddexp(0, -margin)), slopes, bends


@njit(cache=True, nogil=True, error_model="numpy")
def sample_derivatives(filters, patches, label, q, gradient, hessian):
    """Write gradient and Hessian of one sample's loss; `filters` (2 n_filters, patch_length), class +1 first.

    Jitted, and for jitted callers; see `gradients_and_hessians`. `patches` is (2, patch_length); `gradient` and
    `hessian` of the flattened filters are overwritten.
    """
    n_filters, length = filters.shape
    bends = np.empty((n_filters, 2))  # y j act''
    margin = 0.0
    gradient[:] = 0.0
    for f in range(n_filters):
        sign = label if f < n_filters // 2 else -label
        for p in range(2):
            response = 0.0
            for i in range(length):
                response += filters[f, i] * patches[p, i]
            active = max(response, 0.0)
            power = active ** (q - 2)
            margin += sign * power * active**2
            bends[f, p] = sign * q * (q - 1) * power
            for i in range(length):
                gradient[f * length + i] += sign * q * power * (active * patches[p, i])  # grad margin so far
    small = np.exp(-abs(margin))
    doubt = small / (1 + small) if margin > 0 else 1 / (1 + small)
    spread = small / (1 + small) ** 2  # p (1 - p), also where p is near 1
    for i in range(gradient.size):
        for j in range(gradient.size):
            hessian[i, j] = spread * gradient[i] * gradient[j]
    gradient *= -doubt
    for f in range(n_filters):
        for p in range(2):
            for i in range(length):
                for j in range(length):
                    bend = bends[f, p] * patches[p, i] * patches[p, j]
                    hessian[f * length + i, f * length + j] -= doubt * bend


@njit(cache=True, error_model="numpy")
def _gradients_and_hessians(filters, patches, labels, q, gradients, hessians):
    for r in range(len(labels)):
        sample_derivatives(filters, patches[r], labels[r], q, gradients[r], hessians[r])
