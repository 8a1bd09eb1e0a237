"""Average whatever depends on the batches over batch orders: all of them, or drawn ones.

For small problems, with every Hessian written out; `sim.monte_carlo.corr` is the fast road for Corr_n itself.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array
from sim.losses.problems import Quadratics
from sim.monte_carlo.parallel_mean import merge, summarize
from sim.monte_carlo.sampling import draw_permutations, n_ordered_partitions, ordered_partitions

MAX_ORDERS = 20_000
"""Most orders that are enumerated."""
CHUNK = 1_000_000
"""Numbers in the Hessians of the orders that are evaluated at once."""
Progress = Callable[[int], object]
"""Called with the number of orders done since the last call."""


def ignore(n: int) -> None:
    """Report progress to nobody."""


def every_order(n_samples: int, batch_size: int, n_epochs: int = 1) -> np.ndarray:
    """List every sequence of batches of some epochs, each reshuffled, as indices of samples.

    Parameters
    ----------
    n_samples, batch_size, n_epochs : int
        `batch_size` divides `n_samples`.

    Returns
    -------
    (n_orders, n_steps, batch_size) ndarray of int

    Raises
    ------
    InputError
        If there are more than `MAX_ORDERS`.
    """
    _check(count_orders(n_samples, batch_size, n_epochs), n_samples, batch_size)
    epochs = ordered_partitions(n_samples, batch_size).reshape(-1, n_samples // batch_size, batch_size)
    return _sequences(epochs, n_epochs)


def every_independent_order(
    n_samples: int, batch_size: int, n_steps: int, micro_batch_size: int | None = None
) -> np.ndarray:
    """List every sequence of batches without regard to what was drawn before; as `every_order`.

    With a `micro_batch_size`, a divisor of `batch_size`, every step is that many micro-batches in place of a batch.
    """
    micro = micro_batch_size or batch_size
    _check(count_independent_orders(n_samples, batch_size, n_steps, micro), n_samples, batch_size)
    batches = np.array(list(itertools.combinations(range(n_samples), batch_size)))
    parts = ordered_partitions(batch_size, micro).reshape(-1, batch_size // micro, micro)
    return _sequences(batches[:, parts].reshape(-1, *parts.shape[1:]), n_steps)


def count_orders(n_samples: int, batch_size: int, n_epochs: int = 1) -> int:
    """Return how many orders `every_order` lists, or would."""
    return n_ordered_partitions(n_samples, batch_size) ** n_epochs


def count_independent_orders(
    n_samples: int, batch_size: int, n_steps: int, micro_batch_size: int | None = None
) -> int:
    """Return how many orders `every_independent_order` lists, or would."""
    within = n_ordered_partitions(batch_size, micro_batch_size or batch_size)
    return (math.comb(n_samples, batch_size) * within) ** n_steps


def _check(n_orders, n_samples, batch_size):
    if n_orders > MAX_ORDERS:
        raise InputError(
            f"--n-samples {n_samples} and --batch-size {batch_size} have {n_orders} orders to enumerate, "
            f"allowed: at most {MAX_ORDERS}"
        )


def _sequences(items, length):
    """Concatenate every choice of `length` of the `items` (n_items, n_steps, batch_size) along the steps."""
    choices = np.array(list(itertools.product(range(len(items)), repeat=length)))
    return items[choices].reshape(len(choices), -1, items.shape[2])


def drawn_orders(
    n_samples: int, batch_size: int, n_epochs: int, n_orders: int, seed: int, size: int
) -> Iterator[np.ndarray]:
    """Draw random orders, `size` at a time; shape as in `every_order`, the same for any `size` and seed."""
    for start in range(0, n_orders, size):
        n = min(size, n_orders - start)
        permutations = draw_permutations(n_samples, n * n_epochs, seed, start * n_epochs)
        yield permutations.reshape(n, -1, batch_size)


def chunk_size(problem: Quadratics) -> int:
    """Orders to evaluate at once, for bounded memory."""
    return max(1, CHUNK // problem.hessians.size)


def average(
    problem: Quadratics,
    chunks: Iterator[np.ndarray],
    evaluate: Callable[[Array, Array], Array],
    progress: Progress = ignore,
) -> tuple[Array, Array]:
    """Mean over orders of the even part of a function of the batch noise, and its standard error.

    Every order is evaluated with its noise and with the opposite noise, f(D)/2 + f(-D)/2: the odd orders cancel, among
    them the first, which has expectation 0 and most of the variance.

    Parameters
    ----------
    problem : Quadratics
    chunks : iterator of (n_orders, n_steps, batch_size) ndarray of int
    evaluate : callable
        From (n_orders, n_steps, n_params) and (n_orders, n_steps, n_params, n_params) to (..., n_orders, n_params).
    progress : callable
        Called with the number of orders done since the last call.

    Returns
    -------
    mean, stderr : (..., n_params) ndarray

    Raises
    ------
    InputError
        If a value is not finite.
    """
    gradient, hessian = problem.gradients.mean(axis=0), problem.hessians.mean(axis=0)

    def evaluated(orders: np.ndarray) -> Array:
        gradients, hessians = problem.gradients[orders].mean(axis=2), problem.hessians[orders].mean(axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            mirrored = evaluate(2 * gradient - gradients, 2 * hessian - hessians)
            values = (evaluate(gradients, hessians) + mirrored) / 2
        if not np.isfinite(values).all():
            raise InputError(
                "--eps-root is 0 and so is a batch gradient, allowed: > 0, or noise scaled by --rho"
            )
        return values

    return merge((summarize(evaluated(orders)) for orders in chunks), progress)


def average_over_orders(
    problem: Quadratics,
    batch_size: int,
    n_epochs: int,
    n_permutations: int | None,
    seed: int,
    evaluate: Callable[[Array, Array], Array],
    progress: Progress = ignore,
) -> tuple[Array, Array]:
    """Average as `average` does, over `n_permutations` random orders, or over all of them (None).

    Returns
    -------
    mean, stderr : (..., n_params) ndarray
        The standard error over all orders is 0.
    """
    if n_permutations is not None:
        size = chunk_size(problem)
        chunks = drawn_orders(problem.n_samples, batch_size, n_epochs, n_permutations, seed, size)
        return average(problem, chunks, evaluate, progress)
    orders = every_order(problem.n_samples, batch_size, n_epochs)
    mean = enumerated_average(problem, orders, evaluate, progress)
    return mean, np.zeros_like(mean)


def enumerated_average(
    problem: Quadratics,
    orders: np.ndarray,
    evaluate: Callable[[Array, Array], Array],
    progress: Progress = ignore,
) -> Array:
    """Average as `average` does, over the given orders; (..., n_params)."""
    size = chunk_size(problem)
    chunks = (orders[start : start + size] for start in range(0, len(orders), size))
    return average(problem, chunks, evaluate, progress)[0]
