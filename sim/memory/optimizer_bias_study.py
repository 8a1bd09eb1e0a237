"""C_total of the scale-invariant optimisers at their usual settings, against the batch size of one experiment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adam_minibatch_noise.expansion.constants import limit_c_total, rule_c_total, step_size
from adam_minibatch_noise.expansion.registry import make_rule, settings_of
from adam_minibatch_noise.expansion.turning_points import epoch_geometry, micro_variance_factor

CASES: dict[str, tuple[str, dict[str, float]]] = {
    "adam": ("adam", {}),
    "adam-short": ("adam", {"beta2": 0.95}),
    "nadam": ("nadam", {}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop-long": ("rmsprop", {"beta2": 0.999}),
    "adam-p1": ("adam-p", {"power": 1.0}),
    "adam-p4": ("adam-p", {"power": 4.0}),
    "ademamix": ("ademamix", {}),
    "invariant-adam": ("invariant-adam", {}),
}
"""Label of a case: optimiser, and settings that are not its defaults."""
COLUMNS = ("beta1", "beta2", "beta3", "alpha", "power")


def bias_rows(
    n_samples: int,
    batch_sizes: Sequence[int],
    noise_scale: float,
    n_epochs: int,
    micro_batch_size: int,
    cases: Mapping[str, tuple[str, dict[str, float]]] = CASES,
    progress: Callable[[int], object] = lambda n: None,
) -> list[dict[str, Any]]:
    """C_total of every case at every batch size, in the limit and exactly at the end of an epoch.

    Parameters
    ----------
    n_samples : int
    batch_sizes : sequence of int
        Above n_samples: the full batch.
    noise_scale : float
        B_simple, > 0.
    n_epochs : int
    micro_batch_size : int
        Of batch-size invariant Adam; a batch that is smaller is its own micro-batch.
    cases : mapping
    progress : callable
        Called with 1 after each row.

    Returns
    -------
    list of dict
        case, optimizer, its settings, micro_batch_size, batch_size, n_batches, noise_scale, lam, n_epochs; step_size,
        the update without noise; c_total_limit and c_total_exact, in units of the square of the step size.
    """
    rows = []
    for case, (name, settings) in cases.items():
        rule, used = make_rule(name, settings), settings_of(name) | settings
        size = step_size(rule)
        for batch_size in batch_sizes:
            n_batches, v, correlation = epoch_geometry(n_samples, batch_size)
            lam = v * noise_scale
            lam_micro = noise_scale * micro_variance_factor(rule, n_samples, batch_size, micro_batch_size)
            exact = rule_c_total(rule, lam, n_batches, n_epochs, correlation, lam_micro)
            rows.append(
                {"case": case, "optimizer": name}
                | {column: used.get(column) for column in COLUMNS}
                | {"micro_batch_size": micro_batch_size if rule.of_micro_batches else None}
                | {"batch_size": batch_size, "n_batches": n_batches, "noise_scale": noise_scale, "lam": lam}
                | {"n_epochs": n_epochs, "step_size": size}
                | {"c_total_limit": float(limit_c_total(rule, lam, lam_micro)) / size**2}
                | {"c_total_exact": float(exact) / size**2}
            )
            progress(1)
    return rows
