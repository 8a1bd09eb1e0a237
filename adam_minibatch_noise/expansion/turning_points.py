r"""The batch size at which the monotonicity of C_total in beta2 (and in beta1) turns, for finite epochs too.

Compares the limit n -> infinity of Cattaneo and Shigida (2026), `constants.limit_c_total`, with its exact counterpart
`constants.rule_c_total` at the last step of an epoch, for any scale-invariant optimiser and the true geometry of an
experiment: N samples, batches of b, m = floor(N/b) of them an epoch, the N - m b samples that are left over dropped.

C_total is linear in lam, and its noise part linear in the correlation of two batches of an epoch; both depend on b
only, everything else on m = floor(N/b). As m takes few values, every whole b is looked at: no bisection, and
nothing is assumed about how often the monotonicity changes. While one beta is swept over a grid,

    turns_after  is the largest b up to which C_total moves all along the grid as its noise part does, which rules at
                 small batch sizes (Adam's beta2: increases; beta1: decreases), and
    turned_at    the smallest b from which on it moves the other way.

Between the two it is not monotone. Both ends of the grid get a close neighbour, for the slope there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.constants import limit_c_total, main_constants
from adam_minibatch_noise.expansion.registry import make_rule, settings_of
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import batch_correlation, main_sums
from adam_minibatch_noise.theory import Array, batch_variance_factor

GRID = tuple(1 - 10 ** (-1 - k / 11) for k in range(-4, 23))
"""Betas of the map: every second one is in the sweeps of the paper, from 0.769 to 0.999."""
BETAS = ("beta1", "beta2", "beta3")
"""Settings that can be swept, of the optimisers that have them."""
LOW, HIGH = 0.9, 0.999
"""Ends of the grid on which monotonicity is judged."""
NEIGHBOUR = 1e-4
"""Distance of the neighbours of the ends, as a share of 1 - beta."""
MAX_STEPS = 100_000
"""Largest number of steps accepted; memory grows in proportion to it."""
Progress = Callable[[int], object]
Fixed = Mapping[str, Any] | float
"""Settings of an optimiser that are not swept; of Adam the other beta suffices."""


def epoch_geometry(n_samples: int, batch_size: int) -> tuple[int, float, float]:
    """Return the number of batches an epoch, v, and the correlation of two of them.

    Parameters
    ----------
    n_samples, batch_size : int
        >= 1; a batch size above n_samples means the full batch.

    Returns
    -------
    n_batches : int
    variance_factor : float
        v of `adam_minibatch_noise.theory.batch_variance_factor`.
    correlation : float
        See `expansion.weight_sums.batch_correlation`; 0 where an epoch has one batch.
    """
    batch_size = min(batch_size, n_samples)
    n_batches = n_samples // batch_size
    correlation = batch_correlation(n_samples, batch_size) if n_batches > 1 else 0.0
    return n_batches, float(batch_variance_factor(n_samples, batch_size)), correlation


def coefficients(rule: UpdateRule, n_batches: int, n_epochs: int) -> tuple[Array, Array]:
    """FB and C1 + C2 at the last step of an epoch, without anything that depends on lam or the correlation.

    Parameters
    ----------
    rule : UpdateRule
        With an array of (n_betas,) decays.
    n_batches, n_epochs : int

    Returns
    -------
    forward : (n_betas,) ndarray
        FB.
    noise : (2, n_betas) ndarray
        C1 + C2 at correlation 0, and what a correlation of 1 adds to it.
    """
    sums = main_sums(rule.weights, n_batches, n_batches * n_epochs - 1, np.array([0.0, 1.0]))
    forward, c1, c2 = main_constants(rule, sums)
    noise = c1 + c2
    noise[1] -= noise[0]
    return forward, noise


def sweep(
    swept_beta: str, grid: Sequence[float], fixed: Fixed | None = None, optimizer: str = "adam"
) -> tuple[UpdateRule, dict[str, Array]]:
    """Return the optimiser along a sweep of one of its betas, and its betas there.

    Parameters
    ----------
    swept_beta : str
        One of `BETAS`, of those that the optimiser has.
    grid : sequence of float
        Its values, in [0, 1), ascending.
    fixed : mapping of str to float, or float, optional
        The other settings, as in `registry.make_rule`; of Adam the other beta suffices.
    optimizer : str

    Returns
    -------
    rule : UpdateRule
    betas : dict of str to (n_betas,) ndarray

    Raises
    ------
    InputError
        If the grid is not ascending, the optimiser has no such beta or is not scale-invariant; as `registry.make_rule`.
    """
    betas = [name for name in BETAS if name in settings_of(optimizer)]
    if swept_beta not in betas:
        raise InputError(f"swept_beta is {swept_beta!r}, allowed: {', '.join(betas)}")
    if sorted(set(grid)) != list(grid):
        raise InputError("grid is not ascending")
    values = np.asarray(grid, np.float64)
    if isinstance(fixed, float | int):
        fixed = {"beta1" if swept_beta == "beta2" else "beta2": fixed}
    settings = settings_of(optimizer) | dict(fixed or {}) | {swept_beta: values}
    rule = make_rule(optimizer, settings)
    rule.require_scale_invariance()
    if rule.of_micro_batches:
        raise InputError(f"{optimizer} averages over micro-batches, allowed: an optimizer of whole batches")
    return rule, {name: np.broadcast_to(settings[name], values.shape) for name in betas}


def steps_of_map(n_samples: int, batch_sizes: Sequence[int], n_epochs: Sequence[int]) -> int:
    """Return how many steps `c_total_map` sums over.

    Raises
    ------
    InputError
        If one sum is longer than `MAX_STEPS`.
    """
    return _count_steps([epoch_geometry(n_samples, size)[0] for size in batch_sizes], n_epochs)


def steps_of_turning_points(n_samples: int, min_batch_size: int, n_epochs: Sequence[int]) -> int:
    """Return how many steps `turning_points` sums over; raises as `steps_of_map` does."""
    if not 1 <= min_batch_size <= n_samples:
        raise InputError(f"min_batch_size is {min_batch_size}, allowed: 1 to {n_samples}")
    return _count_steps({n_samples // b for b in range(min_batch_size, n_samples + 1)}, n_epochs)


def _count_steps(n_batches: Collection[int], n_epochs: Collection[int]) -> int:
    longest = max(n_batches) * max(n_epochs)
    if longest > MAX_STEPS:
        raise InputError(f"n_epochs is {max(n_epochs)}, allowed: {MAX_STEPS} steps, this is {longest}")
    return sum(n_batches) * sum(n_epochs)


def c_total_map(
    swept_beta: str,
    fixed: Fixed,
    n_samples: int,
    batch_sizes: Sequence[int],
    noise_scales: Sequence[float],
    n_epochs: Sequence[int],
    grid: Sequence[float] = GRID,
    progress: Progress = lambda n: None,
    optimizer: str = "adam",
) -> list[dict[str, Any]]:
    """C_total along a sweep at every batch size, noise scale and number of epochs.

    Parameters
    ----------
    swept_beta, fixed, grid, optimizer
        As in `sweep`.
    n_samples : int
    batch_sizes : sequence of int
        Above n_samples: the full batch.
    noise_scales : sequence of float
        B_simple, > 0.
    n_epochs : sequence of int
        C_total is that of the last step of each.
    progress : callable
        Called with the number of steps done since the last call (`steps_of_map` in all).

    Returns
    -------
    list of dict
        One a value: swept_beta, batch_size, n_batches, noise_scale, lam, n_epochs, the betas, c_total_limit,
        c_total_exact.

    Raises
    ------
    InputError
        As `sweep` and `steps_of_map`.
    """
    steps_of_map(n_samples, batch_sizes, n_epochs)
    rule, betas = sweep(swept_beta, grid, fixed, optimizer)
    names = (*betas, "c_total_limit", "c_total_exact")
    rows = []
    for batch_size in batch_sizes:
        n_batches, v, correlation = epoch_geometry(n_samples, batch_size)
        for epochs in n_epochs:
            forward, noise = coefficients(rule, n_batches, epochs)
            progress(n_batches * epochs)
            for noise_scale in noise_scales:
                lam = v * noise_scale
                limit = limit_c_total(rule, lam)
                exact = forward + lam * (noise[0] + correlation * noise[1])
                case = {"swept_beta": swept_beta, "batch_size": batch_size, "n_batches": n_batches}
                case |= {"noise_scale": noise_scale, "lam": lam, "n_epochs": epochs}
                columns = [values.tolist() for values in (*betas.values(), limit, exact)]
                lines = zip(*columns, strict=True)
                rows += [case | dict(zip(names, line, strict=True)) for line in lines]
    return rows


def turning_points(
    swept_beta: str,
    fixed: Fixed,
    n_samples: int,
    noise_scales: Sequence[float],
    n_epochs: Sequence[int],
    min_batch_size: int = 64,
    grid: Sequence[float] = GRID,
    progress: Progress = lambda n: None,
    optimizer: str = "adam",
) -> list[dict[str, Any]]:
    """Turning points along a sweep for every noise scale and number of epochs, limit and exact.

    Parameters
    ----------
    swept_beta, fixed, n_samples, noise_scales, n_epochs, optimizer
        As in `c_total_map`.
    min_batch_size : int
        Smallest batch size that is looked at.
    grid : sequence of float
        Of it the values between `LOW` and `HIGH` count, besides these two and their neighbours.
    progress : callable
        As in `c_total_map` (`steps_of_turning_points` in all).

    Returns
    -------
    list of dict
        One a noise scale and number of epochs: swept_beta, noise_scale, n_epochs, turns_after_limit,
        turns_after_exact, turned_at_limit, turned_at_exact, the last four None where there is none.

    Raises
    ------
    InputError
        As `sweep` and `steps_of_turning_points`.
    """
    steps_of_turning_points(n_samples, min_batch_size, n_epochs)
    sweep(swept_beta, grid, fixed, optimizer)
    inside = [value for value in grid if LOW < value < HIGH]
    ends = [LOW, LOW + NEIGHBOUR * (1 - LOW), HIGH - NEIGHBOUR * (1 - HIGH), HIGH]
    rule, betas = sweep(swept_beta, sorted({*inside, *ends}), fixed, optimizer)
    only_noise = np.diff(limit_c_total(rule, 1.0) - limit_c_total(rule, 0.0)).sum()
    small = 1 if only_noise > 0 else -1
    sizes = np.arange(min_batch_size, n_samples + 1)
    geometry = [epoch_geometry(n_samples, int(size)) for size in sizes]
    n_batches, v, correlation = (np.array(column) for column in zip(*geometry, strict=True))
    limit = {
        noise_scale: turning_point(limit_c_total(rule, noise_scale * v[:, None]), sizes, small)
        for noise_scale in noise_scales
    }
    rows = []
    for epochs in n_epochs:
        forward, noise = np.empty((2, len(sizes), len(betas[swept_beta])))
        for m in np.unique(n_batches):
            same = n_batches == m
            fb, (c0, c1) = coefficients(rule, int(m), epochs)
            forward[same], noise[same] = fb, c0 + np.multiply.outer(correlation[same], c1)
            progress(int(m) * epochs)
        for noise_scale in noise_scales:
            exact = turning_point(forward + noise_scale * v[:, None] * noise, sizes, small)
            points = {"limit": limit[noise_scale], "exact": exact}
            rows.append(
                {"swept_beta": swept_beta, "noise_scale": noise_scale, "n_epochs": epochs}
                | {f"turns_after_{theory}": after for theory, (after, _) in points.items()}
                | {f"turned_at_{theory}": at for theory, (_, at) in points.items()}
            )
    return rows


def turning_point(
    values: Array, sizes: NDArray[np.signedinteger[Any]], small: int
) -> tuple[int | None, int | None]:
    """Return `turns_after` and `turned_at` (module docstring), each None if there is none.

    Parameters
    ----------
    values : (n_sizes, n_betas) ndarray
        C_total along the sweep at every batch size.
    sizes : (n_sizes,) ndarray of int
        Ascending.
    small : {1, -1}
        Direction of C_total at small batch sizes.
    """
    steps: Array = small * np.diff(values, axis=1)
    constant = (steps == 0).all(axis=1)  # the very first step has no memory: C_total = 0
    n_small = int(np.argmin(np.append((steps > 0).all(axis=1), False)))
    n_large = int(np.argmin(np.append(((steps < 0).all(axis=1) | constant)[::-1], False)))
    return int(sizes[n_small - 1]) if n_small else None, int(sizes[-n_large]) if n_large else None
