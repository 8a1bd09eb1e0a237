"""Every order of the batches of a small problem, for tests that compare an expectation with the mean over all."""

import itertools

import numpy as np

from sim.losses.problems import Quadratics, make_quadratics
from sim.monte_carlo.sampling import ordered_partitions


def batches_of(problem, batch_size):
    """Batch gradients and Hessians of every ordered partition: (n_partitions, m, d) and (.., m, d, d)."""
    gradients, hessians = micro_batches_of(problem, batch_size, 1)
    return gradients[:, :, 0], hessians[:, :, 0]


def micro_batches_of(problem, micro_batch_size, n_micro_batches):
    """Micro-batch gradients and Hessians of every ordered partition: (n_orders, m, n_micro_batches, d, ...)."""
    orders = ordered_partitions(problem.n_samples, micro_batch_size)
    shape, d = (len(orders), -1, n_micro_batches, micro_batch_size), problem.n_params
    gradients = problem.gradients[orders].reshape(*shape, d).mean(axis=3)
    return gradients, problem.hessians[orders].reshape(*shape, d, d).mean(axis=3)


def of_epochs(batches, n_epochs):
    """Every sequence of epochs, each reshuffled, from the orders of one (n_orders, m, ...)."""
    choices = np.array(list(itertools.product(range(len(batches)), repeat=n_epochs)))
    return batches[choices].reshape(len(choices), -1, *batches.shape[2:])


def mirrored(n_samples, n_params, noise, seed):
    """Quadratics whose samples deviate from the mean in opposite pairs: third moments of the noise vanish."""
    base = make_quadratics(n_samples // 2, n_params, 1.0, seed)
    other = base.with_noise(-1.0)
    pairs = zip((base.gradients, base.hessians), (other.gradients, other.hessians), strict=True)
    return Quadratics(*(np.concatenate(pair) for pair in pairs)).with_noise(noise)


def batches_without_replacement(samples, batch_size, n_batches):
    """Every sequence of `n_batches` disjoint batches; samples may remain."""
    if n_batches == 0:
        return [()]
    return [
        (batch, *rest)
        for batch in itertools.combinations(samples, batch_size)
        for rest in batches_without_replacement(
            [s for s in samples if s not in batch], batch_size, n_batches - 1
        )
    ]
