"""Time steps of Adam and AdamW on the two-layer CNN at the published size, beside torch and JAX, on one core.

The job is the run of `sim.feature_noise_run` with its defaults: 10^6 steps at batch 2 (1000 coordinates,
2 x 20 filters, 40,000 weights, float64). Ours is run whole, --n-runs times, since its steps become cheaper: with AdamW
once bias correction is over, with Adam as L2 puts filters to rest. A step of the peers costs the same: they take turns,
--n-repeats each, and the median is multiplied by 10^6; so does ours while bias correction changes every weight.
Processor time throughout. Before that the peers' filters after 50 steps are compared with ours.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from common.cli import Parser, run
from common.files import to_table, write_csv
from common.settings import COUNT

CASES = {"adamw": 0.01, "adam": 1e-5}
"""lambda of the published table."""
N_CHECKED = 50
DISTINCT_ROWS = 1 + 999 * (1 - 0.9**2)
"""Mean coordinates that the two samples of a batch touch: supports of 100 out of 999, drawn independently."""


class Contender(NamedTuple):
    """One way to take steps: `run(n)`; `n` of a turn."""

    name: str
    run: Callable[[int], object]
    n: int


def main(argv: list[str] | None = None) -> None:
    """Check, time, write."""
    parser = Parser(prog="python -m bench.feature_noise", description=__doc__.splitlines()[0])
    parser.add_argument("--n-repeats", type=COUNT, default=7, help="turns of each contender")
    parser.add_argument("--n-runs", type=COUNT, default=3, help="whole runs of ours")
    parser.add_argument("--out", type=Path, default=Path("results/bench/feature_noise.csv"), help="the table")
    args = parser.parse_args(argv)
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import torch

    torch.set_num_threads(1)
    entry_seconds, bytes_per_second = ceilings()
    rows = []
    for optimizer, weight_decay in CASES.items():
        rows += compare(optimizer, weight_decay, args.n_repeats, args.n_runs, entry_seconds, bytes_per_second)
        write_csv(args.out, rows)
    print("{processor}, vectors of {vector_bits} bits, one thread".format(**rows[0]))
    columns = ("optimizer", "contender", "steps_per_second", "run_seconds", "ours_over_it", "of_ceiling")
    print(to_table(columns, rows))


def compare(
    optimizer: str, weight_decay: float, n_repeats: int, n_runs: int, entry_seconds: float, rate: float
) -> list[dict]:
    """Time every contender at one optimiser; one row each."""
    import numpy as np

    from bench.jobs import processor
    from sim.feature_noise.settings import Settings
    from sim.feature_noise.training import Run

    settings = Settings(optimizer=optimizer, weight_decay=weight_decay, n_test=0)
    early = Run(settings)
    early.advance(1)
    contenders = [
        Contender("this project, first steps", early.advance, 4000),
        check(settings, "jax scan", jax_steps, 1000),
        check(settings, "torch eager", torch_steps, 300),
    ]
    seconds = {"this project": []}  # of a step
    for _ in range(n_runs):
        run = Run(settings)
        seconds["this project"].append(cpu_seconds(run.advance, settings.total_steps))
    for contender in contenders:
        seconds[contender.name] = []
    for _ in range(n_repeats):
        for contender in contenders:
            seconds[contender.name].append(cpu_seconds(contender.run, contender.n))
    middle = {name: float(np.median(times)) for name, times in seconds.items()}
    every = 2 * settings.n_filters * settings.patch_length
    touched = 2 * settings.n_filters * DISTINCT_ROWS
    rows = []
    for name, times in seconds.items():
        entries = touched if name == "this project" and optimizer == "adamw" else every
        bound = max(entries * entry_seconds, 6 * 8 * entries / rate)
        low, high = (float(q) for q in np.quantile(times, [0.25, 0.75]))
        rows.append(
            {
                **processor(),
                "optimizer": optimizer,
                "contender": name,
                "n_times": len(times),
                "steps_per_second": 1 / middle[name],
                "lower_quartile": 1 / high,
                "upper_quartile": 1 / low,
                "run_seconds": settings.total_steps * middle[name],
                "ours_over_it": middle[name] / middle["this project"],
                "roots_per_step": entries,
                "bytes_per_step": 48 * entries,
                "ceiling": 1 / bound,
                "of_ceiling": bound / middle[name],
            }
        )
    return rows


def cpu_seconds(function: Callable[[int], object], n_steps: int) -> float:
    """Processor seconds of a step, over `n_steps`."""
    start = time.process_time()
    function(n_steps)
    return (time.process_time() - start) / n_steps


def check(settings, name: str, make, n: int) -> Contender:
    """Refuse a peer whose filters after `N_CHECKED` steps are not ours; otherwise let it go on from there."""
    import numpy as np

    from sim.feature_noise.training import Run, batches

    mine, blocks = Run(settings), batches(settings)
    order = next(blocks)
    advance, filters = make(settings, mine.train.dense(), mine.train.labels, mine.filters)
    advance(order[:N_CHECKED])
    mine.advance(N_CHECKED, order[:N_CHECKED])
    if not np.allclose(filters(), mine.filters, rtol=1e-8, atol=1e-10):
        raise RuntimeError(f"{name} computes something else")
    advance(order[:n])  # compiles for this length
    return Contender(name, lambda n: advance(order[:n]), n)


def torch_steps(settings, patches, labels, filters):
    """Make torch's way: autograd and its own optimiser, foreach."""
    import torch

    weights = torch.tensor(filters, requires_grad=True)
    patches, classes = torch.tensor(patches), torch.tensor((labels < 0).astype(int))
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    optimizer = make([weights], lr=settings.lr, weight_decay=settings.weight_decay, fused=True)

    def advance(order):
        for batch in torch.from_numpy(order).long():
            optimizer.zero_grad()
            responses = patches[batch].reshape(-1, settings.patch_length) @ weights.flatten(0, 1).T
            active = torch.relu(responses).view(settings.batch_size, 2, 2, -1) ** settings.q
            torch.nn.functional.cross_entropy(active.sum(dim=(1, 3)), classes[batch]).backward()
            optimizer.step()

    return advance, lambda: weights.detach().numpy()


def jax_steps(settings, patches, labels, filters):
    """Make JAX's way: a scan over steps, compiled, gradients by autodiff."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    patches, labels, s = jnp.asarray(patches), jnp.asarray(labels), settings
    signs = jnp.repeat(jnp.array([1.0, -1.0]), s.n_filters)
    l2 = s.weight_decay if s.optimizer == "adam" else 0.0

    def loss(weights, batch):
        responses = patches[batch].reshape(-1, s.patch_length) @ weights.T
        scores = (jnp.maximum(responses, 0) ** s.q).reshape(s.batch_size, 2, -1).sum(1) @ signs
        return jnp.logaddexp(0, -labels[batch] * scores).mean()

    def step(state, batch):
        weights, first, second, t = state
        g = jax.grad(loss)(weights, batch) + l2 * weights
        first = s.beta1 * first + (1 - s.beta1) * g
        second = s.beta2 * second + (1 - s.beta2) * g * g
        root = jnp.sqrt(second / (1 - s.beta2**t)) + s.eps
        weights = s.decay * weights - s.lr / (1 - s.beta1**t) * first / root
        return (weights, first, second, t + 1), None

    scan = jax.jit(lambda state, order: jax.lax.scan(step, state, order)[0], donate_argnums=0)
    start = jnp.asarray(filters.reshape(-1, s.patch_length))
    state = [(start, jnp.zeros_like(start), jnp.zeros_like(start), jnp.array(1.0))]

    def advance(order):
        state[0] = jax.block_until_ready(scan(state[0], jnp.asarray(order)))

    return advance, lambda: np.asarray(state[0][0]).reshape(filters.shape)


def ceilings() -> tuple[float, float]:
    """Seconds of a root and a division in cache, and bytes a second of a pass that reads and writes a state."""
    import numpy as np
    from numba import njit

    from sim.monte_carlo.simd import (
        aligned_zeros,
        lanes_of,
        load,
        panel_lanes,
        square_root,
        store,
        zero_vector,
    )

    @njit(nogil=True, error_model="numpy")
    def roots(table, n_times, zero):
        for _ in range(n_times):
            for c in range(0, table.shape[1], lanes_of(zero)):
                x = load(table, (0, c), zero)
                store(table, (0, c), 1.0 / (square_root(x) + 1e-8))

    @njit(nogil=True)
    def scale(table, n_times, zero):
        for _ in range(n_times):
            for c in range(0, table.shape[1], lanes_of(zero)):
                store(table, (0, c), load(table, (0, c), zero) * 1.0000001)

    def best(function, table, n_times):
        function(table, 1, zero)
        times = []
        for _ in range(15):
            start = time.process_time()
            function(table, n_times, zero)
            times.append(time.process_time() - start)
        return min(times) / n_times

    zero = zero_vector(panel_lanes(32))
    small, state = aligned_zeros((1, 1024)) + 2.0, aligned_zeros((1, 3 * 40_000)) + np.pi
    return best(roots, small, 4000) / small.size, 2 * state.nbytes / best(scale, state, 200)


if __name__ == "__main__":
    run(main)
