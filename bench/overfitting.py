"""Time the training of hundreds of small networks beside torch and JAX, in one run, and against the machine's ceiling.

A turn trains all runs of a job, without any evaluation; a rate is samples a second in total, the median of --n-repeats
turns, which the contenders take in turns. Peers compute in float32 and train a block of runs at a time, in as many
processes of one thread as --n-threads says, and compete with the best of a few sizes of the
block. They draw the orders of the samples themselves, within the time. Before that, the losses of four runs after some
steps are compared with those of a plain loop in float64. The table is written anew after each round of turns.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.kernels import parse_names
from common.cli import Parser, run
from common.files import to_table, write_csv
from common.settings import COUNT

PEERS = "torch by hand", "torch.func", "jax"
BLOCKS = {
    "digits-4": (64, 128, 256),
    "digits-64": (4, 16, 64),
    "digits-full": (1, 4, 16),
    "words-64": (1, 2, 4),
}
"""Runs of a block that peers try."""
N_CHECKED = 20
"""Steps after which losses are compared."""


class Contender(NamedTuple):
    """One way to do a job.

    Attributes
    ----------
    run : callable
        Trains all runs.
    size : int
        Bytes of its numbers.
    settings : str
        Its block, in words.
    first_call : float
        Seconds of the first call, with compilation.
    close : callable
        Ends its processes.
    """

    name: str
    run: Callable[[], object]
    size: int
    settings: str
    first_call: float
    close: Callable[[], object] = bool


def main(argv: list[str] | None = None) -> None:
    """Check, time, write the table, print it."""
    parser = Parser(prog="python -m bench.overfitting", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default=",".join(BLOCKS), help="names, joined by commas")
    parser.add_argument("--n-repeats", type=COUNT, default=7, help="turns of each contender")
    parser.add_argument("--n-threads", type=COUNT, default=os.cpu_count(), help="for every contender")
    parser.add_argument(
        "--out", type=Path, default=Path("results/bench/overfitting.csv"), metavar="FILE", help="the table"
    )
    args = parser.parse_args(argv)

    from bench.jobs import measure_flop_rate, processor
    from bench.overfitting_jobs import JOBS

    names = parse_names(parser, args.jobs, JOBS)
    flop_rate = measure_flop_rate(args.n_threads)
    rows = []
    for name in names:
        print(f"{name}: blocks are tried, then {args.n_repeats} turns", flush=True)
        for rows_of_job in compare(JOBS[name], args.n_repeats, args.n_threads, flop_rate):
            write_csv(args.out, rows + rows_of_job)
        rows += rows_of_job
    print("{processor}, vectors of {vector_bits} bits, {0} threads".format(args.n_threads, **processor()))
    columns = (
        "job",
        "contender",
        "settings",
        "samples_per_second",
        "ours_over_it",
        "of_ceiling",
        "first_call_s",
    )
    print(to_table(columns, rows))


def compare(job, n_repeats: int, n_threads: int, flop_rate: float) -> Iterator[list[dict]]:
    """Time every contender at one job; after each round of turns, yield one row each."""
    from bench.overfitting_jobs import ceiling

    bounds = {size: ceiling(job, size, flop_rate, n_threads) for size in (4, 8)}
    contenders = [ours(job, n_threads), *(best_of(job, name, n_threads) for name in PEERS)]
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(n_repeats):
        for contender in contenders:
            start = time.perf_counter()
            contender.run()
            seconds[contender.name].append(time.perf_counter() - start)
        yield [summarize(job, contender, seconds, bounds[contender.size]) for contender in contenders]
    for contender in contenders:
        contender.close()


def summarize(job, contender: Contender, seconds: dict[str, list[float]], bound: float) -> dict[str, Any]:
    """Make the row of a contender from the times of all turns so far."""
    import numpy as np

    from bench.jobs import processor

    n_samples = job.n_runs * job.n_steps * job.batch_size
    low, middle, high = (
        float(q) for q in np.quantile(n_samples / np.array(seconds[contender.name]), [0.25, 0.5, 0.75])
    )
    return {
        **processor(),
        "job": job.name,
        "contender": contender.name,
        "settings": contender.settings,
        "n_turns": len(seconds[contender.name]),
        "samples_per_second": middle,
        "lower_quartile": low,
        "upper_quartile": high,
        "ours_over_it": float(np.median(seconds[contender.name]) / np.median(seconds["this project"])),
        "ceiling": bound,
        "of_ceiling": middle / bound,
        "first_call_s": contender.first_call,
    }


def best_of(job, name: str, n_threads: int) -> Contender:
    """Try a peer's blocks on one core, and keep the fastest; refuse one that computes something else."""
    from bench.overfitting_jobs import TOLERANCE, difference
    from bench.overfitting_workers import Workers

    rates, n_steps = {}, min(N_CHECKED, job.n_steps)
    for block in BLOCKS[job.name]:
        trial = Workers(job, name, block, 1)
        gap = difference(job, trial.check(n_steps), n_steps)
        if not gap < TOLERANCE:
            raise RuntimeError(
                f"{name} computes something else at job {job.name}: losses differ by {gap:.2g}"
            )
        n_runs = max(job.n_runs // 16, block)
        start = time.perf_counter()
        trial.train(n_runs)
        rates[block] = n_runs / (time.perf_counter() - start)
        trial.close()
    block = max(rates, key=rates.__getitem__)
    workers = Workers(job, name, block, n_threads)
    settings = f"{n_threads} x blocks of {block}"
    return Contender(name, partial(workers.train, job.n_runs), 4, settings, workers.first_call, workers.close)


def ours(job, n_threads: int) -> Contender:
    """Make the contender of this project."""
    from bench.overfitting_ours import make

    train = make(job, n_threads)
    start = time.perf_counter()
    train(1)
    first_call = time.perf_counter() - start
    return Contender("this project", partial(train, job.n_runs), 4, "", first_call)


if __name__ == "__main__":
    run(main)
