"""Batches of kappa micro-batches: settings scaled to them, and runs over them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array, scaling_rule
from sim.batch_invariance.cases import CASES, N_SAMPLES, RULES
from sim.losses.landscapes import Landscape
from sim.memory.memoryless import with_memory

EPS_ROOT = 1e-300
"""Below all squares but 0: where there was no gradient yet, nothing moves."""


def check_kappas(
    kappas: Sequence[int], names: Sequence[str], lr_max: float, betas: tuple[float, float]
) -> None:
    """Refuse batches above the full one of a case of `CASES`, or of no divisor of the largest, and betas below 0.

    Raises
    ------
    InputError
    """
    for kappa in kappas:
        if max(kappas) % kappa:
            raise InputError(f"--kappas has {kappa}, allowed: divisors of the largest, {max(kappas)}")
    largest = min(N_SAMPLES // CASES[name].micro_batch_size for name in names)
    if max(kappas) > largest:
        raise InputError(
            f"--kappas has {max(kappas)}, allowed: at most {largest}, the full batch of a problem"
        )
    scaled("invariant", max(kappas), lr_max, betas)


@dataclass(frozen=True)
class Run:
    """An optimiser scaled to batches of `kappa` micro-batches."""

    kappa: int
    lr: float
    rule: UpdateRule


def scaled(rule: str, kappa: int, lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> Run:
    """Scale the reference settings to `kappa` micro-batches a batch by one of `RULES`.

    Raises
    ------
    InputError
        If a beta would fall below 0.
    """
    scaling, squares_micro_batches = RULES[rule]
    scaled_lr, beta1, beta2 = (float(value) for value in scaling_rule(scaling, kappa, lr, *betas))
    if min(beta1, beta2) < 0:
        raise InputError(
            f"--kappas has {kappa}, allowed: at most {1 / (1 - min(betas)):.4g} = 1/(1 - beta) of the shorter memory"
        )
    optimizer = "invariant-adam" if squares_micro_batches else "adam"
    settings = {"beta1": beta1, "beta2": beta2, "eps_root": EPS_ROOT}
    return Run(kappa, scaled_lr, replace(make_rule(optimizer, settings), weight_decay=weight_decay))


def run_over(micro_batches: np.ndarray, landscape: Landscape, run: Run, every: int) -> Array:
    """Train over a fixed sequence of micro-batches, `run.kappa` of them a step.

    Parameters
    ----------
    micro_batches : (n_micro_batches, micro_batch_size) ndarray of int
        Samples in the order in which they are used, the same for every kappa.
    landscape : Landscape
    run : Run
    every : int
        Micro-batches between two points that are kept, a multiple of kappa and a divisor of n_micro_batches.

    Returns
    -------
    (n_micro_batches / every + 1, n_params) ndarray
        theta after 0, every, 2 every, ... micro-batches.
    """
    size = micro_batches.shape[1]
    shape = (-1, run.kappa, size) if run.rule.of_micro_batches else (-1, run.kappa * size)
    return with_memory(landscape, run.rule, micro_batches.reshape(shape), run.lr)[:: every // run.kappa]
