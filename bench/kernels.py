"""Time the simulator's kernels beside NumPy, JAX and torch, in one run, and against the machine's ceiling.

Every contender does the whole job: it draws the orders of the samples, and reduces what it computes. A peer competes
twice: with this project's sampler, the fastest at hand, and "alone", with what its library has for that. Peers are
given a few chunk sizes, in one thread of Python or in `--n-threads`, and compete with their best. Compilation is
timed apart. The contenders take turns of about `TURN` seconds, and a rate is the median of `--n-repeats` turns. The
tables are written anew after each round of turns.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.cli import Parser, run
from common.files import to_table, write_csv, write_json
from common.settings import COUNT

TURN = 0.5
"""Seconds of a turn: permutations are as many as a contender does in this time, training runs as the job says."""


class Contender(NamedTuple):
    """One way to do a job: `run(n_items)`; `settings` in words, seconds of the first call."""

    name: str
    run: Callable[[int], object]
    n_items: int
    settings: str
    first_call: float


def main(argv: list[str] | None = None) -> None:
    """Run the jobs, write kernels.csv, scaling.csv, machine.json and kernels.png, and print the table."""
    parser = Parser(prog="python -m bench.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="A1,A2,A3,B1,C", help="names, joined by commas")
    parser.add_argument("--n-repeats", type=COUNT, default=7, help="turns of each contender")
    parser.add_argument("--n-threads", type=COUNT, default=os.cpu_count(), help="for every contender")
    parser.add_argument(
        "--out", type=Path, default=Path("results/bench"), metavar="FOLDER", help="of the results"
    )
    args = parser.parse_args(argv)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # a wrong hint would slow NumPy down
        os.environ.pop(name, None)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's chunks run in threads already

    from bench import jobs
    from bench.plot_kernels import plot

    chosen = [jobs.JOBS[name] for name in parse_names(parser, args.jobs, jobs.JOBS)]
    flop_rate = jobs.measure_flop_rate(args.n_threads)
    write_json(args.out / "machine.json", machine(args.n_threads, flop_rate))
    rows = []
    for job in chosen:
        for rows_of_job in compare(job, args.n_repeats, args.n_threads, flop_rate):
            write_csv(args.out / "kernels.csv", rows + rows_of_job)
        rows += rows_of_job
    print(
        "{processor}, vectors of {vector_bits} bits, {0} threads".format(args.n_threads, **jobs.processor())
    )
    columns = ("job", "contender", "settings", "per_second", "ours_over_it", "of_ceiling", "first_call_s")
    print(to_table(columns, rows), flush=True)

    curves = []
    for point in scaling(args.n_repeats, args.n_threads, flop_rate):
        curves.append(point)
        write_csv(args.out / "scaling.csv", curves)
    plot(curves, rows, args.out / "kernels.png")


def parse_names(parser: Parser, text: str, known: Iterable[str]) -> list[str]:
    """Split `text` at commas; complain of a name that is not among the known ones."""
    names = text.split(",")
    for name in names:
        if name not in known:
            parser.error(f"--jobs names {name!r}, allowed: {', '.join(known)}")
    return names


def compare(job, n_repeats: int, n_threads: int, flop_rate: float) -> Iterator[list[dict]]:
    """Time every contender at one job; after each round of turns, yield one row each."""
    from bench.jobs import ceiling, measure_read_rate

    bound = ceiling(job, flop_rate, measure_read_rate(job.table(), n_threads))
    contenders = [ours(job, n_threads), *peers(job, n_threads)]
    seconds = {contender.name: [] for contender in contenders}
    for _ in range(n_repeats):
        for contender in contenders:
            start = time.perf_counter()
            contender.run(contender.n_items)
            units = contender.n_items * job.n_units / job.n_items
            seconds[contender.name].append((time.perf_counter() - start) / units)
        yield summarise(job, contenders, seconds, bound)


def summarise(job, contenders: list[Contender], seconds: dict[str, list[float]], bound: float) -> list[dict]:
    """Make one row of each contender from its times per unit so far."""
    import numpy as np

    from bench.jobs import processor

    rates = {name: 1 / np.array(times) for name, times in seconds.items()}
    mine = float(np.median(rates["this project"]))
    rows = []
    for contender in contenders:
        rate = rates[contender.name]
        low, middle, high = (float(q) for q in np.quantile(rate, [0.25, 0.5, 0.75]))
        rows.append(
            {
                **processor(),
                "job": job.name,
                "contender": contender.name,
                "settings": contender.settings,
                "unit": job.unit,
                "n_turns": len(rate),
                "per_second": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "ours_over_it": mine / middle,
                "ceiling": bound,
                "of_ceiling": middle / bound,
                "first_call_s": contender.first_call,
            }
        )
    return rows


def ours(job, n_threads: int) -> Contender:
    """Make the contender of this project."""
    from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, SEED
    from sim.monte_carlo.corr import adam_least_squares
    from sim.monte_carlo.corr_cnn import adam_cnn
    from sim.monte_carlo.parallel_mean import mean_and_stderr
    from sim.monte_carlo.trajectories import adam_runs

    problem = job.problem()
    adam = BETA1, BETA2, EPS_ROOT

    def corr(n_items):
        make = adam_cnn if job.n_filters else adam_least_squares
        of_orders = make(*problem, job.batch_size, *adam)
        return mean_and_stderr(of_orders, job.n_samples, n_items, SEED, n_threads=n_threads)

    def train(n_items):
        settings = job.batch_size, LR, *adam, job.n_epochs, n_items, SEED
        return adam_runs(*problem, problem[0][0] * 0, *settings, n_threads=n_threads)

    function = train if job.n_epochs else corr
    start = time.perf_counter()
    function(2)
    first_call = time.perf_counter() - start
    start = time.perf_counter()
    function(job.n_items)
    rate = job.n_items / (time.perf_counter() - start)
    return Contender("this project", function, turn_items(job, rate, 512), "", first_call)


def turn_items(job, rate: float, at_once: int) -> int:
    """Items of a turn at `rate` a second, in whole rounds of `at_once`."""
    return job.n_items if job.n_epochs else at_once * max(1, round(rate * TURN / at_once))


def peers(job, n_threads: int) -> list[Contender]:
    """Make the peers, each with the chunk and the threads that suit it best."""
    import torch

    from bench import peer_jax, peer_numpy, peer_torch

    torch.set_num_threads(n_threads)
    problem = job.problem()
    make = "make_training" if job.n_epochs else "make_corr"
    contenders = []
    for name, module in [("numpy", peer_numpy), ("jax", peer_jax), ("torch", peer_torch)]:
        function = getattr(module, make)(job, *problem)
        best = best_of(job, name, function, module.CHUNKS, n_threads)
        chunk, threads = (int(word) for word in best.settings.split() if word.isdigit())
        contenders += [best, alone(job, best, function, module.draw, chunk, threads)]
    compiled = getattr(peer_torch, make)(job, *problem, compiled=True)
    contenders.append(best_of(job, "torch compiled", compiled, (chunk,), n_threads))
    return contenders


def best_of(job, name: str, function, chunks: tuple[int, ...], n_threads: int) -> Contender:
    """Try chunk sizes, and Python threads, and keep the fastest; refuse a function that computes something else."""
    import numpy as np

    trials = []
    for chunk in chunks:
        chunk = min(chunk, job.n_items)
        n_items = min(job.n_items, max(4 * chunk, 256))
        orders, expected = checked_orders(job, chunk)
        start = time.perf_counter()
        values = function(orders)
        first_call = time.perf_counter() - start
        if not np.allclose(values[: len(expected)], expected, rtol=1e-8, atol=1e-9):
            raise RuntimeError(f"{name} computes something else at job {job.name}")
        for threads in sorted({1, n_threads}):

            def whole(n, chunk=chunk, threads=threads):
                return run_peer(job, function, chunk, threads, n)

            start = time.perf_counter()
            whole(n_items)
            rate = n_items / (time.perf_counter() - start)
            settings = f"chunk {chunk} x {threads}"
            n_turn = turn_items(job, rate, chunk * threads)
            trials.append((rate, Contender(name, whole, n_turn, settings, first_call)))
    return max(trials, key=lambda trial: trial[0])[1]


def alone(job, best: Contender, function, draw, chunk: int, n_threads: int) -> Contender:
    """Make the contender that does without this project: `best`, but its library draws the orders too."""

    def whole(n):
        return run_peer(job, function, chunk, n_threads, n, draw)

    start = time.perf_counter()
    whole(chunk * n_threads)
    rate = chunk * n_threads / (time.perf_counter() - start)
    return best._replace(
        name=f"{best.name} alone", run=whole, n_items=turn_items(job, rate, chunk * n_threads)
    )


def checked_orders(job, n_items: int):
    """Orders for one call of a peer, and what this project computes for the first few of them."""
    import numpy as np

    from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, SEED
    from sim.monte_carlo.corr import adam_least_squares
    from sim.monte_carlo.corr_cnn import adam_cnn
    from sim.monte_carlo.sampling import draw_permutations
    from sim.monte_carlo.trajectories import adam_runs

    problem = job.problem()
    adam, few = (BETA1, BETA2, EPS_ROOT), min(n_items, 4)
    if not job.n_epochs:
        orders = draw_permutations(job.n_samples, n_items, SEED)
        make = adam_cnn if job.n_filters else adam_least_squares
        return orders, make(*problem, job.batch_size, *adam)(orders[:few])
    epochs = [draw_permutations(job.n_samples, n_items, SEED, epoch * 2**32) for epoch in range(job.n_epochs)]
    settings = job.batch_size, LR, *adam, job.n_epochs, few, SEED
    return np.stack(epochs, axis=1), adam_runs(*problem, problem[0][0] * 0, *settings)[:, -1]


def run_peer(job, function, chunk: int, n_threads: int, n_items: int, draw=None):
    """Draw orders a chunk at a time, call `function` on them, and reduce to mean and variance over the items.

    `draw` takes the number of samples, of orders, a seed and the number of the first; default: this project's.
    """
    import numpy as np

    from bench.jobs import SEED
    from sim.monte_carlo.parallel_mean import in_threads
    from sim.monte_carlo.sampling import draw_permutations

    n_epochs, draw = max(job.n_epochs, 1), draw or draw_permutations

    def block(first):
        size = min(chunk, n_items - first)
        orders = draw(job.n_samples, size * n_epochs, SEED, first * n_epochs)
        values = function(orders.reshape(size, n_epochs, -1) if job.n_epochs else orders)
        return values.mean(axis=0), values.var(axis=0)

    parts = in_threads(block, range(0, n_items, chunk), n_threads)
    return np.mean(list(parts), axis=0)


def scaling(n_repeats: int, n_threads: int, flop_rate: float) -> Iterator[dict]:
    """Time Corr_n against d, the number of batches and the threads, with the ceiling of each point; yield points."""
    from dataclasses import replace
    from functools import partial

    import numpy as np

    from bench.jobs import JOBS, call_seconds, ceiling, measure_flop_rate, measure_read_rate

    base = JOBS["A1"]
    points = [("d", d, replace(base, d=d), n_threads) for d in (8, 16, 32, 64, 128, 256)]
    points += [("n_batches", m, replace(base, n_samples=16 * m), n_threads) for m in (4, 16, 64, 256, 1024)]
    points += [
        ("n_threads", k, base, k) for k in sorted({1, 2, 4, 8, 16, 32, 64, n_threads}) if k <= n_threads
    ]
    for axis, value, job, threads in points:
        job = replace(job, n_items=max(512, int(2e8 / job.flop())))
        contender = ours(job, threads)
        seconds = np.median(call_seconds(partial(contender.run, job.n_items), n_repeats))
        peak = flop_rate if threads == n_threads else measure_flop_rate(threads)
        bound = ceiling(job, peak, measure_read_rate(job.table(), threads))
        yield {"axis": axis, "value": value, "per_second": job.n_items / seconds, "ceiling": bound}


def machine(n_threads: int, flop_rate: float) -> dict:
    """Describe what the numbers were measured on."""
    import platform

    import jax
    import numba
    import numpy as np
    import torch

    from bench.jobs import processor

    versions = {module.__name__: module.__version__ for module in (numba, np, jax, torch)}
    return {
        **processor(),
        "n_threads": n_threads,
        "float64_gflop_per_second": flop_rate / 1e9,
        "python": platform.python_version(),
        **versions,
    }


if __name__ == "__main__":
    run(main)
