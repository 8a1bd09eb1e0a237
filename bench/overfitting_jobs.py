"""The jobs of `bench.overfitting`: networks, data, settings of the runs, a slow twin, and the least work of a step."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

SEED = 1
EPS = 1e-8
"""Of Adam, outside the root."""
TOLERANCE = 1e-4
"""Difference of two losses that counts as none."""
LRS = 1e-4, 1e-3, 1e-2
BETA1S = 0.0, 0.8, 0.9, 0.957, 0.981
BETA2S = 0.769, 0.9, 0.981, 0.992, 0.999
Weights = dict[str, np.ndarray]
"""Arrays stacked over runs: w1 (R, n_inputs, n_hidden), b1 (R, n_hidden), w2 (R, n_hidden, n_classes),
b2 (R, n_classes), and of a text `embedding` (R, n_words, width)."""


class Runs(NamedTuple):
    """What each of R runs starts from: weights, and its lr, beta1 and beta2, float32 (R,)."""

    weights: Weights
    lr: np.ndarray
    beta1: np.ndarray
    beta2: np.ndarray

    def part(self, first: int, last: int) -> "Runs":
        """Return the runs `first` ... `last` - 1."""
        weights = {name: array[first:last] for name, array in self.weights.items()}
        return Runs(weights, *(array[first:last] for array in self[1:]))


@dataclass(frozen=True)
class Job:
    """Networks with one hidden layer (ReLU, softmax cross-entropy), trained with Adam; runs differ in all settings.

    Attributes
    ----------
    n_samples, batch_size, n_runs, n_epochs : int
        Orders of the samples are drawn for each run and epoch, unless the batch is the whole data set.
    n_inputs, n_hidden, n_classes : int
        Widths of the layers.
    n_words, context : int
        Of a text: size of the vocabulary, and words of a sample; n_inputs / context is the width of the embedding.
        0: samples are vectors.
    """

    name: str
    n_samples: int
    batch_size: int
    n_runs: int
    n_epochs: int
    n_inputs: int
    n_hidden: int
    n_classes: int
    n_words: int = 0
    context: int = 0

    @property
    def task(self) -> str:
        """Name of the task in `sim.small_networks`."""
        return "words" if self.n_words else "digits"

    @property
    def width(self) -> int:
        """Components of the embedding of a word."""
        return self.n_inputs // self.context

    @property
    def full(self) -> bool:
        """Whether the batch is the whole data set, so that no order is needed."""
        return self.batch_size == self.n_samples

    @property
    def n_steps(self) -> int:
        """Steps of a run."""
        return self.n_epochs * self.n_samples // self.batch_size

    @property
    def n_params(self) -> int:
        """Weights of a network."""
        dense = (self.n_inputs + 1) * self.n_hidden + (self.n_hidden + 1) * self.n_classes
        return dense + (self.n_words * self.width if self.n_words else 0)

    @cache  # noqa: B019  # there are four jobs
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs, float32 (n_samples, n_inputs) or words, int32 (n_samples, context); classes, int32.

        The digits are scikit-learn's, / 16; the words are drawn by Zipf's law, since speed does not depend on sense.
        """
        rng = np.random.default_rng(SEED)
        if self.n_words:
            frequencies = 1 / np.arange(1, self.n_words + 1)
            text = rng.choice(self.n_words, self.n_samples + self.context, p=frequencies / frequencies.sum())
            windows = np.lib.stride_tricks.sliding_window_view(text.astype(np.int32), self.context + 1)
            return windows[:, :-1].copy(), windows[:, -1].copy()
        # The file, and not sklearn.datasets.load_digits, which takes seconds to import in every process.
        folder = Path(find_spec("sklearn").origin).parent / "datasets" / "data"
        rows = np.loadtxt(folder / "digits.csv.gz", delimiter=",")
        rows = rows[rng.permutation(len(rows))[: self.n_samples]]
        return (rows[:, :-1] / 16).astype(np.float32), rows[:, -1].astype(np.int32)

    def runs(self) -> Runs:
        """Draw the starts and settings of all runs."""
        rng = np.random.default_rng(SEED)

        def layer(*shape, scale):
            return (rng.normal(size=(self.n_runs, *shape)) * scale).astype(np.float32)

        weights = {
            "w1": layer(self.n_inputs, self.n_hidden, scale=(2 / self.n_inputs) ** 0.5),
            "b1": layer(self.n_hidden, scale=0.1),
            "w2": layer(self.n_hidden, self.n_classes, scale=self.n_hidden**-0.5),
            "b2": layer(self.n_classes, scale=0.1),
        }
        if self.n_words:
            weights["embedding"] = layer(self.n_words, self.width, scale=1.0)
        chosen = (rng.choice(values, self.n_runs).astype(np.float32) for values in (LRS, BETA1S, BETA2S))
        return Runs(weights, *chosen)

    def orders(self, n_runs: int, seed: int = SEED) -> np.ndarray | None:
        """Draw orders by NumPy, int32 (n_runs, n_steps, batch_size); None if the batch is the whole data set."""
        if self.full:
            return None
        rows = np.tile(np.arange(self.n_samples, dtype=np.int32), (n_runs * self.n_epochs, 1))
        return (
            np.random.default_rng(seed).permuted(rows, axis=1).reshape(n_runs, self.n_steps, self.batch_size)
        )

    def flop(self) -> float:
        """Count the operations of one step that no order of evaluation avoids.

        Per sample: 2 for each weight of a product forward, 2 for its gradient, 2 to bring the gradient back through
        it (not to data; to an embedding, yes), and 5 a class for softmax (largest, difference, exponential, sum,
        quotient), an exponential counted as one. Biases: 1 forward, 1 back. Embedding: one addition a component.
        Per weight: 10 for Adam (2 for M, 3 for V, root, eps, division, 2 for the step).
        """
        first, second = self.n_inputs * self.n_hidden, self.n_hidden * self.n_classes
        products = 6 * (first + second) - (0 if self.n_words else 2 * first)
        sample = products + 2 * (self.n_hidden + self.n_classes) + 5 * self.n_classes
        sample += self.n_inputs if self.n_words else 0
        return self.batch_size * sample + 10 * self.n_params

    def bytes(self, size: int) -> float:
        """Count the bytes of one step that pass between the first-level cache and what is behind it.

        Weights and two moments are read and written once, and an input is read once, in numbers of `size` bytes; what
        fits into the first-level cache (32 KiB) counts as nothing.
        """
        state, inputs = 3 * size * self.n_params, (4 * self.context if self.n_words else size * self.n_inputs)
        table = inputs * self.n_samples
        return (2 * state if state > FIRST_LEVEL else 0) + (
            self.batch_size * inputs if table > FIRST_LEVEL else 0
        )


FIRST_LEVEL = 32 * 1024
"""Bytes of a core's first-level cache of data."""

DIGITS = {"n_samples": 1024, "n_inputs": 64, "n_hidden": 32, "n_classes": 10}
WORDS = {"n_samples": 4096, "n_inputs": 48, "n_hidden": 32, "n_classes": 501, "n_words": 501, "context": 3}
JOBS = {
    job.name: job
    for job in [
        Job("digits-4", batch_size=4, n_runs=512, n_epochs=5, **DIGITS),
        Job("digits-64", batch_size=64, n_runs=512, n_epochs=20, **DIGITS),
        Job("digits-full", batch_size=1024, n_runs=512, n_epochs=40, **DIGITS),
        Job("words-64", batch_size=64, n_runs=256, n_epochs=2, **WORDS),
    ]
}


def train_slowly(job: Job, runs: Runs, orders: np.ndarray | None, n_steps: int) -> Weights:
    """Train in float64 by NumPy, one run after the other; what every contender must agree with."""
    inputs, classes = job.data()
    trained = {name: array.astype(np.float64) for name, array in runs.weights.items()}
    for r in range(len(runs.lr)):
        lr, beta1, beta2 = (float(values[r]) for values in runs[1:])
        w = {name: array[r] for name, array in trained.items()}
        exp_avg = {name: np.zeros_like(array) for name, array in w.items()}
        exp_avg_sq = {name: np.zeros_like(array) for name, array in w.items()}
        for t in range(n_steps):
            batch = slice(None) if orders is None else orders[r, t]
            for name, g in gradients(w, inputs[batch], classes[batch]).items():
                exp_avg[name] += (1 - beta1) * (g - exp_avg[name])
                exp_avg_sq[name] += (1 - beta2) * (g * g - exp_avg_sq[name])
                root = np.sqrt(exp_avg_sq[name] / (1 - beta2 ** (t + 1)))
                w[name] -= lr / (1 - beta1 ** (t + 1)) * exp_avg[name] / (root + EPS)
    return trained


def forward(w: Weights, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs of the first product (n, n_inputs), outputs of the hidden layer, and log probabilities."""
    x = w["embedding"][inputs].reshape(len(inputs), -1) if "embedding" in w else inputs.astype(np.float64)
    hidden = np.maximum(x @ w["w1"] + w["b1"], 0)
    scores = hidden @ w["w2"] + w["b2"]
    scores = scores - scores.max(axis=1, keepdims=True)
    return x, hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def gradients(w: Weights, inputs: np.ndarray, classes: np.ndarray) -> Weights:
    """Differentiate the mean loss of a batch by hand."""
    x, hidden, log_p = forward(w, inputs)
    by_scores = np.exp(log_p)
    by_scores[np.arange(len(x)), classes] -= 1
    by_scores /= len(x)
    by_hidden = by_scores @ w["w2"].T * (hidden > 0)
    g = {"w1": x.T @ by_hidden, "b1": by_hidden.sum(0), "w2": hidden.T @ by_scores, "b2": by_scores.sum(0)}
    if "embedding" in w:
        g["embedding"] = np.zeros_like(w["embedding"])
        np.add.at(g["embedding"], inputs, (by_hidden @ w["w1"].T).reshape(*inputs.shape, -1))
    return g


def losses(job: Job, weights: Weights) -> np.ndarray:
    """Mean training loss of each run, float64 (R,)."""
    inputs, classes = job.data()
    every = np.arange(len(classes))
    runs = [
        {name: array[r].astype(float) for name, array in weights.items()} for r in range(len(weights["b1"]))
    ]
    return np.array([-forward(w, inputs)[2][every, classes].mean() for w in runs])


def difference(job: Job, weights: Weights, n_steps: int, n_checked: int = 4) -> float:
    """Largest difference in loss, over the first runs, between `weights` and those of `train_slowly`.

    `weights` are those of a block of runs after `n_steps` steps with the orders that `Job.orders` draws for them.
    """
    block = len(weights["b1"])
    n_checked, orders = min(n_checked, block), job.orders(block)
    slow = train_slowly(job, job.runs().part(0, n_checked), orders, n_steps)
    fast = {name: array[:n_checked] for name, array in weights.items()}
    return float(np.abs(losses(job, fast) - losses(job, slow)).max())


def measure_update_rate(n_bytes: int, n_threads: int) -> float:
    """Measure the best bytes/s at which threads each read and write a table of `n_bytes`, in order, again and again."""
    from numba import njit

    from bench.jobs import call_seconds
    from sim.monte_carlo.parallel_mean import in_threads
    from sim.monte_carlo.simd import aligned_zeros, lanes_of, load, panel_lanes, store, zero_vector

    @njit(nogil=True)
    def scale(table, n_times, zero):
        for _ in range(n_times):
            for c in range(0, table.shape[1], lanes_of(zero)):
                store(table, (0, c), load(table, (0, c), zero) * 1.0000001)

    zero = zero_vector(panel_lanes(32))
    n_entries = -(-n_bytes // (8 * zero.size)) * zero.size
    n_times = max(1, int(4e8 / n_bytes))
    tables = [aligned_zeros((1, n_entries)) for _ in range(n_threads)]
    scale(tables[0], 1, zero)
    seconds = call_seconds(
        lambda: list(in_threads(lambda table: scale(table, n_times, zero), tables, n_threads)), 15
    ).min()
    return 2 * tables[0].nbytes * n_times * n_threads / seconds


def ceiling(job: Job, size: int, flop_rate: float, n_threads: int) -> float:
    """Samples a second at the machine's peak of arithmetic, or of passing bytes, whichever takes longer.

    `flop_rate` is that of float64 (`bench.jobs.measure_flop_rate`); in numbers of `size` 4 a register holds twice as
    many, and an instruction takes as long.
    """
    seconds = job.flop() / (flop_rate * 8 / size)
    if job.bytes(size):
        rate = measure_update_rate(3 * size * job.n_params, n_threads)
        seconds = max(seconds, job.bytes(size) / rate)
    return job.batch_size / seconds
