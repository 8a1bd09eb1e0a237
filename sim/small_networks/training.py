"""A run, from its settings to its row: the same bits whatever runs beside it, on every processor."""

import functools
import threading
from typing import Any

import numpy as np

from sim.monte_carlo.sampling import make_counters
from sim.monte_carlo.simd import vector_bits
from sim.small_networks import kernels
from sim.small_networks.layers import CHUNK, SPARE, Network
from sim.small_networks.optimizers import ADAM, N_COEFFICIENTS, SGD
from sim.small_networks.settings import Settings
from sim.small_networks.simd import LANES, aligned_zeros, zero_vector
from sim.small_networks.tasks import Task, make_task, rng_of

STATUS = {kernels.OK: "ok", kernels.UNFINISHED: "unfinished", kernels.DIVERGED: "diverged"}
RULES = {"sgd-momentum": SGD}
"""Rule of `sim.small_networks.optimizers` of each optimiser that is no Adam."""
FEWEST_STEPS = 8
"""Steps between two evaluations, at least."""
EVALUATIONS_PER_EPOCH, SMALL_BATCH = {True: 4, False: 2}, 16
"""Evaluations an epoch, at most: for batches of up to `SMALL_BATCH` samples, for larger ones."""
RESULTS = (
    "status", "n_epochs", "epoch_of_min", "min_valid_loss", "test_loss", "test_error", "train_loss", "gradient_l1",
    "gradient_squared", "sharpness", "trace_covariance", "b_simple",
)  # fmt: skip
"""Columns behind the settings."""


@functools.lru_cache(maxsize=4)
def _task(settings: Settings, dtype: np.dtype) -> Task:
    return make_task(settings, dtype)


def task_of(settings: Settings, dtype) -> Task:
    """Return the task of a run; runs that differ only in the optimiser share it."""
    fields = {
        name: getattr(settings, name) for name in ("task", "label_noise", "embedding", "n_samples", "seed")
    }
    return _task(Settings(**fields), np.dtype(dtype))


def make_workspace(net: Network, n_train: int, n_largest: int, dtype) -> kernels.Workspace:
    """Make what a thread writes to, for `n_train` training samples and at most `n_largest` in any set."""
    rows = kernels.N_PATCHES * CHUNK + 4
    words = net.at_hidden if net.inputs != kernels.LINEAR else net.n_inputs

    def zeros(size):
        return aligned_zeros(size, dtype)

    mask = zeros(LANES)
    mask[: net.n_embedding] = 1
    h = zeros(rows * (net.n_hidden + SPARE))
    h.reshape(rows, -1)[:, net.n_hidden] = 1
    return kernels.Workspace(
        x=zeros(rows * (net.n_inputs + SPARE)),
        h=h,
        o=zeros(rows * max(net.n_logits, 1)),
        d=zeros(rows * max(net.n_hidden, 1)),
        dx=zeros(rows * (net.n_inputs + SPARE)),
        sums=zeros(4 * LANES * LANES),
        transposed=zeros((net.n_hidden + 1) * LANES),
        mask=mask,
        gradient=zeros(net.n_entries),
        squares=zeros(net.n_entries),
        collected=zeros(max(words, 1)),
        coefficients=zeros(N_COEFFICIENTS),
        order=np.arange(n_train, dtype=np.int32),
        picks=np.zeros(n_train, np.uint32),
        counters=make_counters(n_train),
        identity=np.arange(max(n_train, n_largest), dtype=np.int32),
    )


def steps_between_evaluations(settings: Settings) -> int:
    """Steps from one evaluation on the validation samples to the next."""
    n_batches = settings.n_samples // settings.batch_size
    return max(FEWEST_STEPS, n_batches // EVALUATIONS_PER_EPOCH[settings.batch_size <= SMALL_BATCH])


def tile_lanes() -> int:
    """Lanes of a block of a matrix: what four rows of leave room for in the registers; no effect on any sum."""
    return 2 * LANES if vector_bits() == 512 else LANES


_LOCAL = threading.local()


def _room(net, task, dtype):
    """Return this thread's weights, moments and working space, made once for each shape."""
    key = net, task.n_train, np.dtype(dtype)
    if getattr(_LOCAL, "key", None) != key:
        arrays = [aligned_zeros(net.n_entries, dtype) for _ in range(4)]
        space = make_workspace(net, task.n_train, max(task.n_train, task.n_valid, task.n_test), dtype)
        _LOCAL.key, _LOCAL.room = key, (arrays, space)
    return _LOCAL.room


def train(
    settings: Settings,
    dtype=np.float32,
    history: np.ndarray | None = None,
    at_best: np.ndarray | None = None,
) -> dict[str, Any]:
    """Train until the best validation loss lies far enough back, and measure that best point.

    Parameters
    ----------
    settings : Settings
    dtype : {float32, float64}, optional
        Of weights, moments and samples.
    history : (n,) ndarray of float64, optional
        Receives the validation losses of the first n evaluations.
    at_best : (n_entries,) ndarray, optional
        Receives the weights at the minimum.

    Returns
    -------
    dict
        `RESULTS`: losses are means over samples (half squared errors for regression), `test_error` a share of samples
        (nan for regression), `sharpness` the rise of the training loss under rho times the sign of its gradient,
        `trace_covariance` tr(Sigma) of the gradients of single samples (divisor n_samples), `b_simple` tr(Sigma)/|g|^2.
        All but the first four are of the weights at the minimum; a run that diverged has none of them.
    """
    s = settings.resolved()
    task = task_of(s, dtype)
    net = task.network
    (weights, moment1, moment2, best), space = _room(net, task, dtype)
    weights[:], moment1[:], moment2[:] = task.weights, 0, 0
    zero, tile = zero_vector(LANES, dtype), zero_vector(tile_lanes(), dtype)
    adam_l2 = s.optimizer == "adam"
    n_batches = s.n_samples // s.batch_size
    seed = int(rng_of(s, "order").integers(2**63))
    with np.errstate(over="ignore"):
        status, n_steps, best_step, best_loss, _ = kernels.train(
            net,
            RULES.get(s.optimizer, ADAM),
            weights,
            moment1,
            moment2,
            best,
            task.train,
            task.valid,
            task.n_valid,
            s.batch_size,
            s.replacement,
            s.micro_batch_size if s.optimizer == "invariant-adamw" else 0,
            s.lr,
            0.0 if s.optimizer == "rmsprop" else s.beta1,
            s.beta2,
            s.eps,
            s.weight_decay if adam_l2 else 0.0,
            0.0 if adam_l2 else s.weight_decay,
            np.uint64(seed),
            s.max_epochs * n_batches,
            steps_between_evaluations(s),
            s.patience,
            np.zeros(0) if history is None else history,
            space,
            zero,
            tile,
        )
    row: dict[str, Any] = dict.fromkeys(RESULTS)
    row |= {
        "status": STATUS[status],
        "n_epochs": n_steps / n_batches,
        "epoch_of_min": best_step / n_batches,
        "min_valid_loss": best_loss,
    }
    if STATUS[status] != "diverged":
        row |= _measure(s, task, best, moment1, moment2, space, zero, tile)
    if at_best is not None:
        at_best[:] = best
    return row


def _measure(s, task, best, gradient, moved, space, zero, tile):
    net, n = task.network, task.n_train
    test_loss, test_error = kernels._held_out(net, best, task.test, task.n_test, space, zero, tile)
    rho = best.dtype.type(s.rho)
    loss, rise, norm1, norm2, squares = kernels.measure(
        net, best, moved, gradient, task.train, n, rho, space, zero, tile
    )
    trace = squares / n - norm2
    return {
        "test_loss": test_loss,
        "test_error": test_error,
        "train_loss": loss,
        "gradient_l1": norm1,
        "gradient_squared": norm2,
        "sharpness": rise,
        "trace_covariance": trace,
        "b_simple": trace / norm2 if norm2 > 0 else np.inf,
    }
