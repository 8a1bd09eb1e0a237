"""Monte Carlo over permutations in blocks of a fixed size, shared among threads.

A thread draws a block of permutations (`sim.monte_carlo.sampling`), has it turned into as many vectors, and reduces
them to their mean and scatter; blocks are merged in order. So the result is the same, bit for bit, for any number of
threads, and memory does not grow with the number of permutations.

References
----------
.. [1] Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance".
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numba import config

from adam_minibatch_noise.errors import InputError
from sim.monte_carlo.sampling import draw_permutations

BLOCK = 256
"""Permutations of a block."""
SMALLEST = 2.0**-1022
"""Smallest number of full precision."""


def mean_and_stderr(
    function: Callable[[np.ndarray], np.ndarray],
    n_samples: int,
    n_permutations: int,
    seed: int,
    first_index: int = 0,
    progress: Callable[[int], object] | None = None,
    n_threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Average a function of a permutation over random permutations.

    Parameters
    ----------
    function : callable
        From orders, int32 (n, n_samples) with n <= `BLOCK`, to values (n, d), which are overwritten.
    n_samples : int
    n_permutations : int
        >= 2.
    seed, first_index : int
        As in `sim.monte_carlo.sampling.draw_permutations`.
    progress : callable, optional
        Called with the number of permutations done since the last call.
    n_threads : int, optional
        As in `in_threads`.

    Returns
    -------
    mean, stderr : ndarray of float64, shape (d,)
        Mean and its standard error, sample standard deviation / sqrt(n_permutations).

    Raises
    ------
    InputError
        For a number outside its range.
    """
    if n_permutations < 2:
        raise InputError(f"n_permutations is {n_permutations}, allowed: >= 2")

    def block(start):
        size = min(BLOCK, n_permutations - start)
        return summarize(function(draw_permutations(n_samples, size, seed, first_index + start)))

    return merge(in_threads(block, range(0, n_permutations, BLOCK), n_threads), progress)


def summarize(values):
    """Reduce a block of values (..., n, d), which are overwritten, to n, their mean and scatter for `merge`."""
    mean = values.mean(axis=-2)
    values -= mean[..., None, :]
    return values.shape[-2], mean, _norms(values)


def merge(summaries, progress=None):
    """Mean and its standard error, (..., d) each, of the values behind blocks of `summarize`, in their order [1]_."""
    done, mean, scatter = 0, np.zeros(()), np.zeros(())  # scatter: root of the summed squared deviations
    for size, block_mean, block_scatter in summaries:
        gap = block_mean - mean
        scatter = np.hypot(scatter, np.hypot(block_scatter, gap * np.sqrt(done * size / (done + size))))
        done += size
        mean = mean + gap * (size / done)
        if progress is not None:
            progress(size)
    return mean, scatter / np.sqrt(max(done - 1.0, 1.0) * done)


def _norms(values):
    """Root of the sum of squares of each column; the squares may be beyond float64."""
    squares = np.einsum("...ij,...ij->...j", values, values)
    if not ((squares > 1e-270) & (squares < np.inf)).all():
        unit = np.maximum(np.abs(values).max(axis=-2), SMALLEST)
        scaled = values / unit[..., None, :]
        return unit * np.sqrt(np.einsum("...ij,...ij->...j", scaled, scaled))
    return np.sqrt(squares)


def in_threads(function: Callable, arguments: Sequence, n_threads: int | None = None) -> Iterator:
    """Yield `function` of each argument, in order, computed a few arguments ahead.

    Parameters
    ----------
    function : callable
        Spends its time in jitted functions that release the interpreter's lock (``nogil``).
    arguments : sequence
    n_threads : int, optional
        >= 1. Default: `numba.config.NUMBA_NUM_THREADS` (all processors, or the environment variable of that name).

    Yields
    ------
    object

    Raises
    ------
    InputError
        If `n_threads` is less than 1.
    """
    n_threads = config.NUMBA_NUM_THREADS if n_threads is None else n_threads
    if n_threads < 1:
        raise InputError(f"n_threads is {n_threads}, allowed: >= 1")
    if n_threads == 1 or len(arguments) == 1:
        yield from map(function, arguments)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        waiting: deque[Future] = deque()  # so memory does not grow with the number of arguments
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > 2 * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
