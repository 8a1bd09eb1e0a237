"""The jobs of `bench.overfitting` by `sim.small_networks`: a run on one core, runs side by side, float32."""

from collections.abc import Callable

import numpy as np

from bench.overfitting_jobs import Job

N_SEEDS = 4
"""Runs share as many draws of samples, first weights and orders; in the study, 20."""


def make(job: Job, n_threads: int) -> Callable[[int], None]:
    """Make the function that trains the first n runs; their only evaluation is the one before the first step."""
    from sim.monte_carlo.parallel_mean import in_threads
    from sim.small_networks import kernels
    from sim.small_networks.optimizers import ADAM
    from sim.small_networks.settings import Settings
    from sim.small_networks.simd import LANES, aligned_zeros, zero_vector
    from sim.small_networks.training import make_workspace, task_of, tile_lanes

    runs = job.runs()
    seeds = np.sort(np.arange(job.n_runs) % N_SEEDS)
    settings = [
        Settings(task=job.task, n_samples=job.n_samples, seed=int(seed), batch_size=job.batch_size)
        for seed in seeds
    ]
    tasks = {s.seed: task_of(s, np.float32) for s in settings}
    net = tasks[0].network
    zero, tile = zero_vector(LANES, np.float32), zero_vector(tile_lanes(), np.float32)

    def train_one(r):
        task = tasks[settings[r].seed]
        arrays, space = room()
        weights, moment1, moment2, best = arrays
        weights[:], moment1[:], moment2[:] = task.weights, 0, 0
        adam = float(runs.lr[r]), float(runs.beta1[r]), float(runs.beta2[r]), 1e-8, 0.0, 0.0
        end = job.n_steps, job.n_steps + 1, 1.0, np.zeros(0)
        kernels.train(
            net, ADAM, weights, moment1, moment2, best, task.train, task.valid, task.n_valid, job.batch_size, False, 0,
            *adam, np.uint64(r), *end, space, zero, tile,
        )  # fmt: skip
        free.append((arrays, space))

    free = []

    def room():
        if free:
            return free.pop()
        task = tasks[0]
        n_largest = max(task.n_train, task.n_valid, task.n_test)
        space = make_workspace(net, task.n_train, n_largest, np.float32)
        return [aligned_zeros(net.n_entries, np.float32) for _ in range(4)], space

    def train(n_runs: int) -> None:
        with np.errstate(over="ignore"):
            list(in_threads(train_one, range(n_runs), n_threads))

    return train
