"""The benchmark's jobs, the work each one takes at least, and what this machine can do."""

import time
from dataclasses import dataclass

import numpy as np

BETA1, BETA2, EPS_ROOT, LR = 0.9, 0.999, 1e-8, 1e-3
SEED = 1


@dataclass(frozen=True)
class Job:
    """Least squares with `n_samples` rows of `d` components, or a two-layer network with d weights, in batches.

    Attributes
    ----------
    n_epochs : int
        0: Corr_n over permutations of one epoch. Otherwise: training runs of that many epochs.
    n_items : int
        Permutations or runs in one timing, where they do not follow from a contender's speed.
    n_filters : int
        0: least squares. Otherwise: filters a class of the network.
    """

    name: str
    n_samples: int
    batch_size: int
    d: int
    n_epochs: int = 0
    n_items: int = 2048
    n_filters: int = 0

    @property
    def n_batches(self) -> int:
        """Steps of an epoch."""
        return self.n_samples // self.batch_size

    @property
    def unit(self) -> str:
        """What a rate counts."""
        return "steps" if self.n_epochs else "permutations"

    @property
    def n_units(self) -> int:
        """Permutations, or steps times runs, of one timing."""
        return self.n_items * self.n_epochs * self.n_batches if self.n_epochs else self.n_items

    def problem(self) -> tuple:
        """Draw features (n_samples, d) and residuals or targets (n_samples,); weights and data of the network."""
        if self.n_filters:
            from sim.losses import cnn

            length = self.d // (2 * self.n_filters)
            data = cnn.make_data(self.n_samples, length, length - 1, 1.0, 0.2, SEED)
            return cnn.make_weights(self.n_filters, length, 0.1, SEED), data
        rng = np.random.default_rng(SEED)
        return rng.normal(size=(self.n_samples, self.d)), rng.normal(size=self.n_samples) + 1

    def table(self) -> np.ndarray:
        """Make a table of the size of the rows, one a sample, for `measure_read_rate`."""
        return np.ones((self.n_samples, self.d))

    def flop(self) -> float:
        """Count the float64 operations of one unit that no order of evaluation avoids.

        Per sample and component: 2 for its batch gradient, 4 for its Hessian-vector product (a_r . u, then a sum of
        rows); training needs the 4 only, the network those 4 for each of two patches, and 5 per filter and patch for
        the factors of the patches. Per step and component: 11 for M, R and F, a square root and a division counted as
        one each, then 6 for u, L and P.
        """
        if self.n_filters:
            return self.n_samples * (10 * self.d + 20 * self.n_filters) + 17 * self.n_batches * self.d
        if self.n_epochs:
            return self.d * (4 * self.batch_size + 13)
        return self.d * (6 * self.n_samples + 17 * self.n_batches)

    def bytes(self) -> float:
        """Count the bytes of one unit that must come from beyond the first-level cache.

        Each row twice, since u_k needs the steps after k (training: once), and g_t and F_t out and back in. The
        network's backward pass reads, in place of rows, two patches a sample and their two tables of derivatives.
        """
        if self.n_filters:
            per_sample = self.d + 2 * (self.d // (2 * self.n_filters) + 4 * self.n_filters)
            return 8 * (self.n_samples * per_sample + 4 * self.n_batches * self.d)
        if self.n_epochs:
            return 8 * self.d * self.batch_size
        return 8 * self.d * (2 * self.n_samples + 4 * self.n_batches)


JOBS = {
    job.name: job
    for job in [
        Job("A1", 1024, 16, 64),
        Job("A2", 4096, 16, 32),
        Job("A3", 256, 4, 256),
        Job("B1", 256, 4, 256, n_filters=4),
        Job("C", 1024, 16, 64, n_epochs=10, n_items=256),
    ]
}


def ceiling(job: Job, flop_per_second: float, bytes_per_second: float) -> float:
    """Units a second if `job` ran at the machine's peak of arithmetic, and of reading, whichever takes longer."""
    return 1 / max(job.flop() / flop_per_second, job.bytes() / bytes_per_second)


def call_seconds(function, n_repeats: int) -> np.ndarray:
    """Wall times of `n_repeats` calls."""
    times = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.array(times)


def processor() -> dict[str, str | int]:
    """Say what the kernels are compiled for: the processor's name, and the width of its vectors."""
    from numba.core.registry import cpu_target

    from sim.monte_carlo.simd import vector_bits

    name = cpu_target.target_context.codegen().magic_tuple()[1]
    return {"processor": name, "vector_bits": vector_bits()}


def measure_flop_rate(n_threads: int) -> float:
    """Measure the peak of float64 arithmetic: the best FLOP/s of ten chains of a * b + c a thread, in registers.

    The vectors are those the kernels are compiled for (`sim.monte_carlo.simd.vector_bits`).
    """
    from numba import njit

    from sim.monte_carlo.parallel_mean import in_threads
    from sim.monte_carlo.simd import store, vector_bits, zero_vector

    @njit(nogil=True)
    def chains(n_times, factor, zero, out):
        x = zero + factor
        a, b, c, d, e, f, g, h, i, j = x, x, x, x, x, x, x, x, x, x
        for _ in range(n_times):
            a, b, c, d, e = a * x + x, b * x + x, c * x + x, d * x + x, e * x + x
            f, g, h, i, j = f * x + x, g * x + x, h * x + x, i * x + x, j * x + x
        store(out, (0, 0), a + b + c + d + e + (f + g + h + i + j))

    lanes, n_times = vector_bits() // 64, 2_000_000
    zero, outs = zero_vector(lanes), [np.empty((1, lanes)) for _ in range(n_threads)]
    chains(1, 0.5, zero, outs[0])
    seconds = call_seconds(
        lambda: list(in_threads(lambda out: chains(n_times, 0.5, zero, out), outs, n_threads)), 15
    ).min()
    return 20 * lanes * n_times * n_threads / seconds


def measure_read_rate(table: np.ndarray, n_threads: int) -> float:
    """Measure the best bytes/s at which threads each add up the rows of `table`, in order, again and again."""
    from numba import njit

    from sim.monte_carlo.parallel_mean import in_threads
    from sim.monte_carlo.simd import lanes_of, load, padded, panel_lanes, store, zero_vector

    @njit(nogil=True)
    def read(rows, n_times, zero, out):
        for _ in range(n_times):
            for c in range(0, rows.shape[1], lanes_of(zero)):
                total = zero
                for r in range(rows.shape[0]):
                    total = total + load(rows, (r, c), zero)
                store(out, (0, c), total)

    zero = zero_vector(panel_lanes(table.shape[1]))
    rows = padded(table, zero.size)
    n_times = max(1, int(4e8 / rows.nbytes))  # milliseconds, beside which starting a thread is nothing
    outs = [np.empty((1, rows.shape[1])) for _ in range(n_threads)]
    read(rows, 1, zero, outs[0])
    seconds = call_seconds(
        lambda: list(in_threads(lambda out: read(rows, n_times, zero, out), outs, n_threads)), 15
    ).min()
    return rows.nbytes * n_times * n_threads / seconds
