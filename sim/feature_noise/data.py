r"""Samples of a signal patch and a sparse noise patch, kept as lists of non-zero entries.

The data model of [1]_: y = +-1 with equal chances; one patch is the signal y v with v = e_1, the other the noise xi,
which has `n_noise` coordinates among {2..d} drawn from N(0, noise_std^2), and -feature_noise y as its first. The same
model as dense arrays is `sim.losses.cnn.make_data`, with which `make_samples` agrees entry by entry. The network adds
its two patches up, so their order is not kept.

References
----------
.. [1] Tang, Zhang, Cao and Zou, "Understanding the Generalization of Stochastic Gradient Adam in Learning
   Neural Networks", arXiv:2510.11354, 2025.
"""

from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array

TRAIN, TEST = 2, 4
"""Streams of a seed: training samples (that of `sim.losses.cnn.make_data`), test samples."""


@dataclass(frozen=True)
class Samples:
    """Labelled samples; all that is not listed is zero.

    Attributes
    ----------
    places : (n_samples, 1 + n_noise) ndarray of int32
        Coordinates of the noise patch that are not zero; the first is coordinate 0, that of the signal.
    entries : (n_samples, 1 + n_noise) ndarray
        The values there: -alpha y, then the noise.
    labels : (n_samples,) ndarray
        y, +1.0 or -1.0; the signal patch is y e_1.
    patch_length : int
        d.
    """

    places: np.ndarray
    entries: Array
    labels: Array
    patch_length: int

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def dense(self) -> Array:
        """Return the patches as the dense twin has them: (n_samples, 2, patch_length), signal first."""
        patches = np.zeros((self.n_samples, 2, self.patch_length))
        patches[:, 0, 0] = self.labels
        np.put_along_axis(patches[:, 1], self.places.astype(np.intp), self.entries, axis=1)
        return patches


def make_samples(
    n_samples: int,
    patch_length: int,
    n_noise: int,
    noise_std: float,
    feature_noise: float,
    seed: int,
    *,
    supports: str = "overlapping",
    stream: int = TRAIN,
) -> Samples:
    """Draw samples.

    Parameters
    ----------
    n_samples : int
        n >= 1.
    patch_length : int
        d >= 2.
    n_noise : int
        s, 1 to d - 1.
    noise_std : float
        sigma_p >= 0.
    feature_noise : float
        alpha.
    seed : int
        >= 0.
    supports : {"overlapping", "disjoint"}
        Whether each sample draws its s coordinates for itself, or no two samples share one (n s <= d - 1).
    stream : int
        `TRAIN` or `TEST`.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        If `patch_length` or `n_noise` is outside its range, or the supports cannot be disjoint.
    """
    if patch_length < 2:
        raise InputError(f"patch_length is {patch_length}, allowed: >= 2")
    if not 1 <= n_noise < patch_length:
        raise InputError(f"n_noise is {n_noise}, allowed: 1 to patch_length - 1 = {patch_length - 1}")
    if supports == "disjoint" and n_samples * n_noise > patch_length - 1:
        raise InputError(
            f"n_samples * n_noise is {n_samples * n_noise}, allowed for disjoint supports: "
            f"at most patch_length - 1 = {patch_length - 1}"
        )
    rng = np.random.default_rng([seed, stream])
    labels = rng.choice([-1.0, 1.0], n_samples)
    if supports == "disjoint":
        support = 1 + rng.permutation(patch_length - 1)[: n_samples * n_noise].reshape(n_samples, n_noise)
    else:
        others = np.tile(np.arange(1, patch_length), (n_samples, 1))
        support = rng.permuted(others, axis=1)[:, :n_noise]
    noise = noise_std * rng.standard_normal((n_samples, n_noise))
    places = np.concatenate([np.zeros((n_samples, 1), int), support], axis=1)
    entries = np.concatenate([-feature_noise * labels[:, None], noise], axis=1)
    return Samples(places.astype(np.int32), entries, labels, patch_length)
