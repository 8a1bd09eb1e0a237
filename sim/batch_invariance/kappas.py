"""Batches of kappa micro-batches: settings scaled to them, and the numbers of micro-batches that they divide."""

from collections.abc import Sequence

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import scaling_rule
from sim.batch_invariance.cases import CASES, N_SAMPLES, RULES
from sim.batch_invariance.micro_batches import Settings

MAX_MICRO_BATCHES = 1_000_000
"""Most micro-batches of a run: its trajectory is held in memory."""


def horizons(kappas: Sequence[int], lr_max: float, n_decades: float, n_lr: int, horizon: float) -> list[int]:
    """Choose the number of micro-batches for every learning rate, all multiples of the largest kappa, rising.

    Parameters
    ----------
    kappas : sequence of int
    lr_max, n_decades : float
        Largest learning rate and how many decades they fall by, > 0.
    n_lr : int
        >= 3.
    horizon : float
        Learning rate times micro-batches, > 0.

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        If two of them are the same, one is 0 or above `MAX_MICRO_BATCHES`, or the kappas do not divide the largest.
    """
    largest = max(kappas)
    for kappa in kappas:
        if largest % kappa:
            raise InputError(f"--kappas has {kappa}, allowed: divisors of the largest, {largest}")
    ratio = 10 ** min(n_decades / (n_lr - 1), 300 / n_lr)  # below 1e308: it is refused far below
    first = min(horizon / lr_max / largest, MAX_MICRO_BATCHES + 1)
    counts = [largest * round(first * min(ratio**i, MAX_MICRO_BATCHES + 1)) for i in range(n_lr)]
    if counts[0] <= 0 or counts[-1] > MAX_MICRO_BATCHES or len(set(counts)) < n_lr:
        raise InputError(
            f"--horizon {horizon:g} at learning rates from {lr_max:g} down takes {counts[0]} to "
            f"{counts[-1]} micro-batches, allowed: 1 to {MAX_MICRO_BATCHES}, each number once"
        )
    return counts


def check_kappas(
    kappas: Sequence[int], names: Sequence[str], lr_max: float, betas: tuple[float, float]
) -> None:
    """Refuse batches above the full one of a case of `CASES`, and betas that would fall below 0.

    Raises
    ------
    InputError
    """
    largest = min(N_SAMPLES // CASES[name].micro_batch_size for name in names)
    if max(kappas) > largest:
        raise InputError(
            f"--kappas has {max(kappas)}, allowed: at most {largest}, the full batch of a problem"
        )
    settings_of("invariant", max(kappas), lr_max, betas)


def settings_of(
    rule: str, kappa: int, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
) -> Settings:
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
    return Settings(kappa, scaled_lr, beta1, beta2, 0.0, weight_decay, squares_micro_batches)
