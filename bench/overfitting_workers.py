"""Processes of one thread that share the runs of a job of `bench.overfitting`: how its peers use all cores.

Runs are independent, so that a process that never waits for another is the fastest way to train them.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from bench.overfitting_jobs import JOBS, Job, Runs, Weights

_HELD: dict[str, Any] = {}
"""What a process made when it started."""


class Workers:
    """Processes that train runs of `job` in the way of `peer`.

    Attributes
    ----------
    first_call : float
        Seconds of the first step of a block, compilation and the start of the process included.
    """

    def __init__(self, job: Job, peer: str, block: int, n_workers: int) -> None:
        self.job, self.block = job, block
        start = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        self.pools = [ProcessPoolExecutor(1, context, _start, (job.name, peer)) for _ in range(n_workers)]
        self.everywhere(_train, 0, block)
        self.first_call = time.perf_counter() - start

    def everywhere(self, function: Callable, *arguments: Any) -> list[Any]:
        """Call `function` once in every process, at the same time."""
        return [future.result() for future in [pool.submit(function, *arguments) for pool in self.pools]]

    def train(self, n_runs: int) -> None:
        """Train the first `n_runs` runs, whole blocks of them, from beginning to end."""
        firsts = range(0, n_runs - self.block + 1, self.block)
        futures = [
            self.pools[i % len(self.pools)].submit(_train, first, first + self.block)
            for i, first in enumerate(firsts)
        ]
        for future in futures:
            future.result()

    def check(self, n_steps: int) -> Weights:
        """Return the weights of the first block after `n_steps` steps with the orders of `Job.orders`."""
        return self.pools[0].submit(_check, self.block, n_steps).result()

    def close(self) -> None:
        """End the processes."""
        for pool in self.pools:
            pool.shutdown()


def _start(job_name: str, peer: str) -> None:
    """Make the function that trains, in this process and one thread, and what it needs."""
    os.environ |= {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "NPROC": "1",
    }  # the second: JAX's threads
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    job = JOBS[job_name]
    if peer == "jax":
        from bench import overfitting_jax as module

        train, to_array = module.make(job), lambda orders: orders
    else:
        import torch

        from bench import overfitting_torch as module

        torch.set_num_threads(1)
        train, to_array = module.make(job, functional=peer == "torch.func"), torch.from_numpy
    _HELD.update(job=job, runs=job.runs(), train=train, draw=partial(module.draw, job), to_array=to_array)


def _train(first: int, last: int) -> None:
    runs: Runs = _HELD["runs"].part(first, last)
    _HELD["train"](runs, _HELD["draw"](last - first, first))


def _check(block: int, n_steps: int) -> Weights:
    orders = _HELD["job"].orders(block)
    orders = None if orders is None else _HELD["to_array"](orders)
    return _HELD["train"](_HELD["runs"].part(0, block), orders, n_steps)
