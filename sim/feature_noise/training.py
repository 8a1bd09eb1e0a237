"""A run of an optimiser on the two-layer CNN, from its settings to measurements over time.

One run is one thread; the same settings give the same bits whatever else runs beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from adam_minibatch_noise.theory import one_minus_power
from sim.feature_noise import kernels, lazy_adam_steps, network
from sim.feature_noise.data import TEST, make_samples
from sim.feature_noise.settings import Settings
from sim.losses.cnn import make_weights
from sim.monte_carlo.sampling import draw_permutations
from sim.monte_carlo.simd import aligned_zeros, zero_vector

BLOCK = 8192
"""Steps whose batches are drawn together, about."""
KINDS = {"sgd-momentum": kernels.MOMENTUM, "signum-smooth": kernels.SIGN}
"""What the average gradient is divided by, of optimisers that are not Adam with other squares or settings."""
WITH_REPLACEMENT = 5
"""Stream of a seed: batches drawn with replacement."""


def batches(settings: Settings) -> Iterator[np.ndarray]:
    """Yield the samples of all steps, in blocks (n, batch_size) of int32, without end.

    Parameters
    ----------
    settings : Settings
    """
    n_epochs = max(1, BLOCK // settings.n_batches)
    first = 0
    while True:
        if settings.replacement:
            rng = np.random.default_rng([settings.seed, WITH_REPLACEMENT, first])
            shape = n_epochs * settings.n_batches, settings.batch_size
            yield rng.integers(settings.n_samples, size=shape, dtype=np.int32)
        else:
            orders = draw_permutations(settings.n_samples, n_epochs, settings.seed, first)
            yield orders.reshape(-1, settings.batch_size)
        first += n_epochs


def record_steps(n_steps: int, n_records: int) -> np.ndarray:
    """Steps after which to measure: 0, and at most `n_records` spaced evenly in their logarithm, from the last back."""
    return np.unique([0, *np.rint(n_steps ** np.linspace(1, 0, n_records)).astype(int)])


class Run:
    """Data, weights and moments of a run, and how far it is.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    n_done : int
        Steps taken.
    train, test : Samples
        `test` is None without test samples.
    """

    def __init__(self, settings: Settings) -> None:
        s = settings
        s.check()
        self.settings, self.n_done = s, 0
        model = s.patch_length, s.n_noise, s.noise_std, s.feature_noise, s.seed
        self.train = make_samples(s.n_samples, *model, supports=s.supports)
        self.test = make_samples(s.n_test, *model, stream=TEST) if s.n_test else None
        self._state = network.columns(make_weights(s.n_filters, s.patch_length, s.init_std, s.seed))
        self._sign = network.signs(s.n_filters)
        self._weights = self._state[:, :1].copy()  # of all filters, those dropped as they are for good
        self._kept = np.arange(2 * s.n_filters)  # which of them the first columns of the state are
        self._sums = self._zero_sums(self._state.shape[2])
        self._row_steps = np.zeros(s.patch_length, np.int64)
        self._tables = lazy_adam_steps.tables(s.rate, s.beta1, s.beta2, s.eps, s.eps_root, s.decay)
        self._blocks, self._left = batches(s), np.empty((0, s.batch_size), np.int32)

    def advance(self, n_steps: int, samples: np.ndarray | None = None) -> None:
        """Take steps; with `samples` (n_steps, batch_size), on these instead of drawn ones."""
        s, n_last = self.settings, self.n_done + n_steps
        kernel_settings = s.rate, s.beta1, s.beta2, s.eps, s.eps_root, s.l2, s.decay
        zero = zero_vector(network.LANES)
        data = self.train.places, self.train.entries, self.train.labels
        while self.n_done < n_last:
            if samples is not None:
                self._left = np.ascontiguousarray(samples, np.int32)
            elif not len(self._left):
                self._left = next(self._blocks)
            now, self._left = np.split(self._left, [n_last - self.n_done])
            kernels.advance(
                *(self._state, self._row_steps, data, self._sign, s.power, now, self.n_done),
                *(
                    s.n_dense,
                    self._biases(len(now)),
                    KINDS.get(s.optimizer, kernels.ADAM),
                    s.micro_batch_size,
                ),
                *(self._sums, kernel_settings, self._tables, zero),
            )
            self.n_done += len(now)
            if s.l2 > 0:
                self._drop_filters_at_rest()
        kernels.settle_all(self._state, self._row_steps, n_last, kernel_settings, self._tables, zero)

    def _biases(self, n_steps):
        """Bias corrections of both moments at the next steps, (2, n_steps)."""
        if not self.settings.corrects_bias:
            return np.ones((2, n_steps))
        t = np.arange(self.n_done + 1, self.n_done + n_steps + 1)
        return np.array([one_minus_power(beta, t) for beta in (self.settings.beta1, self.settings.beta2)])

    def _drop_filters_at_rest(self) -> None:
        """Go on without the filters that nothing moves any more, once they fill a vector: the same results, sooner."""
        rests = np.empty(len(self._sign), bool)
        kernels.at_rest(self._state, (1 - self.settings.beta1) * self.settings.l2, rests)
        moving = np.flatnonzero(~rests[: len(self._kept)])
        width = max(1, -(-len(moving) // network.LANES)) * network.LANES
        if width == len(self._sign):
            return
        self._weights = self._all_weights()
        self._kept, signs = self._kept[moving], self._sign[moving]
        state, self._sign = aligned_zeros((*self._state.shape[:2], width)), np.zeros(width)
        state[:, :, : len(moving)], self._sign[: len(moving)] = self._state[:, :, moving], signs
        self._state, self._sums = state, self._zero_sums(width)

    def _zero_sums(self, n_columns):
        """Working space of the kernel."""
        n_sums = 3 if self.settings.optimizer == "invariant-adamw" else 1
        return aligned_zeros((n_sums, self.settings.patch_length + 1, n_columns))

    def _all_weights(self) -> np.ndarray:
        """Weights of all filters, in the layout of the state."""
        weights = self._weights.copy()
        weights[:, :, self._kept] = self._state[:, :1, : len(self._kept)]
        return weights

    @property
    def filters(self) -> np.ndarray:
        """The filters now, (2, n_filters, patch_length)."""
        return network.filters(self._all_weights(), self.settings.n_filters)

    def measure(self) -> network.Measurement:
        """Measure the network as it is."""
        return network.measure(
            self._all_weights(), self.train, self.test, self.settings.n_filters, self.settings.power
        )


def train(settings: Settings, progress: Callable[[int], object] = lambda n: None) -> list[dict[str, Any]]:
    """Run from start to end.

    Parameters
    ----------
    settings : Settings
    progress : callable
        Called with the number of steps since the last call.

    Returns
    -------
    list of dict
        One a record: step, epoch, and the fields of `network.Measurement`.
    """
    run, rows = Run(settings), []
    for step in record_steps(settings.total_steps, settings.n_records):
        while run.n_done < step:
            n = min(int(step) - run.n_done, 20 * BLOCK)
            run.advance(n)
            progress(n)
        rows.append({"step": int(step), "epoch": step / settings.n_batches, **asdict(run.measure())})
    return rows
