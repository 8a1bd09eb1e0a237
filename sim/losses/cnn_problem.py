"""The two-layer CNN as a problem at a fixed point: per-sample gradients and Hessians at random weights."""

from sim.losses import cnn
from sim.losses.problems import Quadratics


def cnn_problem(n_samples: int, n_filters: int, patch_length: int, seed: int) -> Quadratics:
    """Per-sample derivatives of the two-layer CNN of `sim.losses.cnn` at random weights.

    Parameters
    ----------
    n_samples, n_filters, patch_length : int
        Samples, filters a class, and length of a patch, >= 2.
    seed : int
        Of data and weights.

    Returns
    -------
    Quadratics
        With 2 n_filters patch_length parameters.
    """
    data = cnn.make_data(
        n_samples, patch_length, n_noise=patch_length - 1, noise_std=0.7, feature_noise=0.2, seed=seed
    )
    weights = cnn.make_weights(n_filters, patch_length, init_std=0.5, seed=seed)
    return Quadratics(*cnn.gradients_and_hessians(weights, data))
