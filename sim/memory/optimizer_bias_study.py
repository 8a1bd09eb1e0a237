"""C_total of the scale-invariant optimisers at their usual settings, against the batch size of one experiment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adam_minibatch_noise.expansion.constants import step_size
from adam_minibatch_noise.expansion.registry import make_rule, settings_of
from adam_minibatch_noise.expansion.turning_points import c_total_map

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
        Called with the number of steps done since the last call (`turning_points.steps_of_map` of each case).

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
        micro = micro_batch_size if rule.of_micro_batches else None
        about = {"case": case, "optimizer": name} | {column: used.get(column) for column in COLUMNS}
        about |= {"micro_batch_size": micro, "step_size": size}
        # a sweep of one value
        of_case = c_total_map(
            "beta2",
            used,
            n_samples,
            batch_sizes,
            [noise_scale],
            [n_epochs],
            [used["beta2"]],
            progress,
            name,
            micro,
        )
        for row in of_case:
            in_units = {key: row[key] / size**2 for key in ("c_total_limit", "c_total_exact")}
            del row["swept_beta"]
            rows.append(about | row | in_units | about)
    return rows
