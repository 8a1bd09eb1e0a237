"""R8: does C_total rank the betas better when every component of the gradient has its own noise?"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from adam_minibatch_noise import theory
from adam_minibatch_noise.expansion.constants import rule_constants
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.cubes import Cube, interval, tuned
from analysis.reductions.overfitting.rankings import (
    epoch_geometry_of,
    epochs_of_minimum,
    mean_over_sizes,
    points_of,
    rank_correlation,
)
from analysis.reductions.overfitting.rules import verdict
from sim.small_networks.study import n_samples_of

if TYPE_CHECKING:
    import pandas as pd

ONE_NUMBER = "one number"
FORMS = {
    ONE_NUMBER: ("noise_scale", "noise_scale"),
    "per component": ("proposition_1", "proposition_2"),
    "per component, five terms": tuple(f"proposition_{i}" for i in range(1, 6)),
    "per component, rate": ("rate_1", "rate_2"),
    "per component, five terms, rate": tuple(f"rate_{i}" for i in range(1, 6)),
}
"""Columns of `sim.overfitting_noise` that multiply C1, C2, ..."""
THEORIES = ("limit", "exact")
COLUMNS = tuple(dict.fromkeys(name for names in FORMS.values() for name in names))


def component_noise_of(table: "pd.DataFrame", variant: str, sizes: np.ndarray) -> dict[str, Array]:
    """Arrange the noise of a variant: columns (n_seeds, B); 0 at batch sizes that are not in the table.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `sim.overfitting_noise`.
    variant : str
    sizes : (B,) ndarray of int
        The full batch, whose noise has no effect, need not be there.
    """
    part = table[table["variant"] == variant].dropna(subset=list(COLUMNS))
    return {
        name: part.pivot(index="seed", columns="batch_size", values=name)
        .reindex(columns=sizes)
        .dropna(how="all", axis=0)
        .fillna(0.0)
        .to_numpy(float)
        for name in COLUMNS
    }


@functools.cache
def _constants(beta1: float, beta2: float, n_batches: int, n_epochs: int, correlation: float) -> Array:
    """FB, C1 .. C5 at the last step of an epoch; of the limit for no epoch."""
    if n_epochs:
        rule = make_rule("adam", {"beta1": beta1, "beta2": beta2})
        found = rule_constants(
            rule, weight_sums(rule.weights, n_batches, n_batches * n_epochs - 1, correlation)
        )
    else:
        found = theory.limit_constants(beta1, beta2)
    return np.array([found.FB, *(getattr(found, f"C{i}") for i in range(1, 6))])


def constants_of(cube: Cube, exact: bool) -> tuple[Array, Array]:
    """Return FB, C1 .. C5 of each cell, (6, B, P), exactly at the epoch of its minimum or in the limit; and v, (B,)."""
    geometry = [epoch_geometry_of(cube, int(size)) for size in cube.sizes]
    epochs = epochs_of_minimum(cube, points_of(cube))
    found = [
        [
            _constants(*pair, m, int(epochs[i, k]) if exact else 0, correlation)
            for k, pair in enumerate(cube.pairs)
        ]
        for i, (m, _, correlation) in enumerate(geometry)
    ]
    return np.moveaxis(np.array(found), -1, 0), np.array([v for _, v, _ in geometry])


def components(cube: Cube, curve: str, table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rank correlation of every form and its difference from that of one number, with intervals.

    Parameters
    ----------
    cube : Cube
        Of a curve.
    curve : str
    table : pandas.DataFrame
        Of `sim.overfitting_noise`.
    """
    noise = component_noise_of(table, cube.variant, cube.sizes)
    n_seeds = len(noise["noise_scale"])
    if not n_seeds:
        return []
    constants = [constants_of(cube, kind == "exact") for kind in THEORIES]

    def statistic(one: np.ndarray, other: np.ndarray, measured: np.ndarray) -> Array:
        loss = tuned(cube, one, other)
        middle = {name: np.median(values[measured], axis=-2) for name, values in noise.items()}  # (..., B)
        parts = []
        for (forward, *c), v in constants:
            ranks = []
            for names in FORMS.values():
                kappas = [v * middle[name] for name in names]
                preferred = forward + sum(
                    kappa[..., None] * each for kappa, each in zip(kappas, c, strict=False)
                )
                ranks.append(mean_over_sizes(rank_correlation(preferred, loss)))
            parts += [*ranks, *(rank - ranks[0] for rank in ranks)]
        return np.stack(parts, axis=-1)

    value, low, high = interval(statistic, (*cube.halves, np.arange(n_seeds)))
    n = len(FORMS)
    rows = []
    for i, kind in enumerate(THEORIES):
        for k, form in enumerate(FORMS):
            own, less = 2 * i * n + k, (2 * i + 1) * n + k
            rows.append(
                {"variant": cube.variant, "curve": curve, "theory": kind, "form": form, "n_seeds_noise": n_seeds,
                 "rank_correlation": value[own], "low": low[own], "high": high[own], "difference": value[less],
                 "difference_low": low[less], "difference_high": high[less],
                 "verdict": verdict(low[less], high[less]) if form != ONE_NUMBER else None}
            )  # fmt: skip
    return rows


def component_spread(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return, a row a variant and batch size, medians over seeds of how unlike the components are."""
    import pandas as pd

    v = [
        float(theory.batch_variance_factor(n_samples_of(variant), size))
        for variant, size in zip(table["variant"], table["batch_size"], strict=True)
    ]
    known = table.assign(
        one_number=v * table["noise_scale"],
        median_component=v * table["median_noise"],
        weighted=v * table["proposition_1"],
    )
    names = ["n_params", "one_number", "median_component", "weighted", "largest_share"]
    middle: pd.DataFrame = known.groupby(["variant", "batch_size"])[names].median()
    middle["n_seeds"] = known.groupby(["variant", "batch_size"])["seed"].nunique()
    return middle.reset_index().to_dict("records")
