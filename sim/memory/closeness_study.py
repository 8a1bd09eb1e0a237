"""How far the memoryless iteration strays from the algorithm with memory, as the learning rate falls (Theorem 2.3).

The theorem says O(lr^2) with the correction lr^2 Corr_t and O(lr) without: accepted is a log-log slope, fitted over all
learning rates, within 0.1 of 2 and of 1.

The slopes are those of lr -> 0: the largest learning rate must leave several times more steps than the memory
1/(1 - beta2) is long, or the fit is off while `last_slope`, at the smallest learning rates, is not. Such runs decide
nothing: a slope that is off is a violation only if `last_slope` is off too, the points lie on a line (off by more
than 4 standard errors of the fit besides), and the smallest learning rate leaves 100 times the memory. At the small
end the distance must stay above rounding (`sim.memory.memoryless.distance` refuses it otherwise).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array
from sim.losses import cnn
from sim.losses.landscapes import Landscape, cnn_landscape, landscape_of
from sim.losses.problems import GENERATORS
from sim.memory.memoryless import distance, memory_of
from sim.memory.order_of_error import fit_slope
from sim.monte_carlo.sampling import draw_batches

EXPECTED_SLOPE = {"with": 2.0, "without": 1.0}
"""Order of the distance in lr, with and without Corr (Theorem 2.3)."""
TOLERANCE = 0.1
"""Accepted error of a slope, fixed before any run."""
N_STDERR, N_MEMORIES = 4.0, 100
"""A slope that is off by less, besides, or at fewer steps in units of the memory, decides nothing."""
N_SAMPLES, BATCH_SIZE = 12, 2
"""6 batches an epoch out of 66 possible ones: small, so that past batches at the current theta are few."""


@dataclass(frozen=True)
class Curve:
    """Distance against learning rate for one problem, optimiser and iteration.

    Attributes
    ----------
    problem, optimizer : str
    correction : {"with", "without"}
        Whether the memoryless iteration has lr^2 Corr_t.
    lr, distance : (n_lr,) ndarray
        Falling learning rates; largest distance between the trajectories, 2-norm.
    n_steps : (n_lr,) ndarray of int
    slope, stderr : float
        Of log distance against log lr, least squares over all points.
    memory : float
        Length of the optimiser's memory in steps, 1/(1 - beta).
    """

    problem: str
    optimizer: str
    correction: str
    lr: Array
    n_steps: np.ndarray
    distance: Array
    slope: float
    stderr: float
    memory: float

    @property
    def last_slope(self) -> float:
        """Slope between the two smallest learning rates: off too, if the fit is and not for want of range."""
        return float(np.diff(np.log(self.distance[-2:]))[0] / np.diff(np.log(self.lr[-2:]))[0])

    @property
    def verdict(self) -> str:
        """One of "accepted", "violated", "undecided"."""
        off, last_off = (abs(x - EXPECTED_SLOPE[self.correction]) for x in (self.slope, self.last_slope))
        if off <= TOLERANCE:
            return "accepted"
        is_line = off > TOLERANCE + N_STDERR * self.stderr
        is_long = self.n_steps[-1] >= N_MEMORIES * self.memory
        return "violated" if last_off > TOLERANCE and is_line and is_long else "undecided"


def make_landscape(problem: str, seed: int) -> Landscape:
    """Make the small instance of a problem on which trajectories are compared.

    Parameters
    ----------
    problem : {"least-squares", "quadratics", "cnn"}
        5 parameters and a relative spread of a sample of 0.5; the CNN has 2 filters a class of length 4, q = 3.
    seed : int
        >= 0.

    Returns
    -------
    Landscape
        Of `N_SAMPLES` samples.
    """
    if problem == "cnn":
        data = cnn.make_data(N_SAMPLES, 4, n_noise=2, noise_std=0.7, feature_noise=0.2, seed=seed)
        return cnn_landscape(cnn.make_weights(2, 4, init_std=0.5, seed=seed), data)
    return landscape_of(GENERATORS[problem](N_SAMPLES, 5, 0.5, seed))


def measure_curves(
    problems: Sequence[str],
    rules: Sequence[UpdateRule],
    lr: Array,
    n_steps: np.ndarray,
    seed: int,
    progress: Callable[[int], object] = lambda n: None,
    n_threads: int | None = None,
    micro_batch_size: int = 1,
) -> list[Curve]:
    """Measure the distance at every learning rate, with and without Corr.

    Parameters
    ----------
    problems : sequence of str
        As in `make_landscape`.
    rules : sequence of UpdateRule
    lr, n_steps : (n_lr,) ndarray
        Of `sim.memory.order_of_error.learning_rates`.
    seed : int
        Of problems and batches.
    progress : callable
        Called with the number of steps of each run that is done.
    n_threads : int, optional
        Default: all processors. The result does not depend on it.
    micro_batch_size : int, optional
        Of rules that average over micro-batches; a divisor of `BATCH_SIZE`.

    Returns
    -------
    list of Curve
        By problem, optimiser, and with Corr before without.

    Raises
    ------
    InputError
        As `sim.memory.memoryless.distance`, and if the micro-batches do not divide a batch.
    """
    if BATCH_SIZE % micro_batch_size:
        raise InputError(f"--micro-batch-size is {micro_batch_size}, allowed: a divisor of {BATCH_SIZE}")
    batches = draw_batches(N_SAMPLES, BATCH_SIZE, n_steps[-1], seed)
    landscapes = {name: make_landscape(name, seed) for name in problems}

    def measure(run: tuple[str, UpdateRule, str, int]) -> float:
        problem, rule, correction, i = run
        factor = 1.0 if correction == "with" else 0.0
        steps = batches[: n_steps[i]]
        if rule.of_micro_batches:
            steps = steps.reshape(len(steps), -1, micro_batch_size)
        gap = distance(landscapes[problem], rule, steps, lr[i], factor)
        progress(int(n_steps[i]))
        return gap

    keys = [(p, rule, c) for p in problems for rule in rules for c in EXPECTED_SLOPE]
    # the longest runs first
    runs = sorted(((*key, i) for i in range(len(lr)) for key in keys), key=lambda run: -run[-1])
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            gaps = dict(zip(runs, pool.map(measure, runs), strict=True))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    curves = []
    for key in keys:
        distances = np.array([gaps[*key, i] for i in range(len(lr))])
        fit = fit_slope(lr, distances)
        curves.append(Curve(key[0], key[1].name, key[2], lr, n_steps, distances, *fit, memory_of(key[1])))
    return curves
