"""The effect of batch noise on E[Corr], measured and predicted, a setting a row (tables of `sim.expectation`).

It is |g_j| (E[Corr_j] - Corr_j without noise) / (d_j |g|_1 kappa), averaged over components: what C1 + C2 and their
smaller companions add up to. kappa = v mean(Sigma_jj / g_j^2).
"""

from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = ["problem", "n_samples", "n_params", "noise", "problem_seed", "batch_size", "beta1", "beta2"]
RESULTS = ["measured", "stderr", "predicted", "exact", "n_permutations"]
"""Columns of `sim.expectation` that are averaged, by settings."""
JUDGED = {"excess": "bound"}
"""An excess, and the bound without which there is none: the noise is too large for the expansion."""
FEW = ("n_batches", "beta2", "measured", "stderr", "predicted", "exact")
EFFECTS = (*FEW, "batch_size", "n_permutations")
"""Columns of `noise_effects` that the article quotes, beside those of `JUDGED`."""


def noise_effects(table: "pd.DataFrame") -> list[dict[str, float]]:
    """Average the effect of noise over components, one row a setting.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.expectation`, generated least squares only.

    Returns
    -------
    list of dict
        batch_size, beta1, beta2, n_batches, kappa; measured, stderr, predicted, exact (all without unit); excess and
        bound: largest of the components, None if one of them has no bound.
    """
    import numpy as np

    from adam_minibatch_noise.expansion.registry import make_rule
    from adam_minibatch_noise.expansion.weight_sums import weight_sums
    from adam_minibatch_noise.theory import batch_variance_factor, expected_corr_terms, limit_constants
    from sim.losses.problems import GENERATORS

    if unknown := sorted(set(map(str, table["problem"])) - set(GENERATORS)):
        raise InputError(f"column 'problem' holds {unknown[0]!r}, allowed: {', '.join(GENERATORS)}")
    for name in ("n_samples", "n_params", "problem_seed", "batch_size", "n_permutations"):
        if ((bad := table[name]) % 1 != 0).any() or (bad < (name != "problem_seed")).any():
            raise InputError(f"column {name!r} holds {bad.min():g}, allowed: whole numbers of things")
    rows = []
    for key, part in table.groupby(SETTINGS, sort=True):
        name, n_samples, n_params, noise, seed, batch_size, beta1, beta2 = key
        n_samples, n_params, seed, batch_size = map(int, (n_samples, n_params, seed, batch_size))
        moments = GENERATORS[name](n_samples, n_params, noise, seed).moments()
        g, v = moments.gradient, float(batch_variance_factor(n_samples, batch_size))
        kappa = v * np.mean(np.diag(moments.covariance) / g**2)
        unit = np.abs(g) / (np.sign(g) @ moments.hessian) / kappa
        n_batches = n_samples // batch_size
        weights = make_rule("adam", {"beta1": beta1, "beta2": beta2}).weights
        lag = weight_sums(weights, n_batches, n_batches - 1).lag[:, 0]
        quiet = (lag[0] - lag[1]) * (np.sign(g) @ moments.hessian) / np.abs(g)
        limit = expected_corr_terms(moments, limit_constants(beta1, beta2), v)["FB"]
        row = {
            "batch_size": batch_size,
            "n_batches": n_batches,
            "beta1": beta1,
            "beta2": beta2,
            "kappa": kappa,
        }
        row["measured"] = float(np.mean(unit * (part["measured"] - quiet)))
        # components share the permutations: their errors add up at worst
        row["stderr"] = float(np.mean(np.abs(unit) * part["stderr"]))
        row["predicted"] = float(np.mean(unit * (part["predicted"] - limit)))
        row["exact"] = float(np.mean(unit * (part["exact"] - quiet)))
        row["n_permutations"] = int(part["n_permutations"].iloc[0])
        bounded = np.isfinite(part["bound"].astype(float)).all()
        row |= {name: float(part[name].max()) if bounded else None for name in ("excess", "bound")}
        rows.append(row)
    return rows


def summarize(table: "pd.DataFrame") -> dict[str, Any]:
    """Sum up measured against predicted (rows of `analysis.plot_expectation --summary`).

    `largest_miss_percent`: distance to the measured effect of noise, in percent of it, the largest of all settings.
    """
    longest = table.loc[table["beta2"].idxmax()]
    few = table[(table["n_batches"] == table["n_batches"].min()) & (table["beta2"] == longest["beta2"])].iloc[
        0
    ]
    beyond = (table["measured"] - table["exact"]).abs() > 2 * table["stderr"]
    seen = table[table["measured"] != 0]
    miss = {name: 100 * (seen[name] / seen["measured"] - 1).abs().max() for name in ("exact", "predicted")}
    return {
        "n_settings": len(table),
        "largest_miss_percent": {name: float(value) if len(seen) else None for name, value in miss.items()},
        "n_within_2_stderr": int((~beyond).sum()),
        "batch_sizes_beyond_2_stderr": sorted(map(int, table["batch_size"][beyond].unique())),
        "n_permutations": int(table["n_permutations"].max()),
        "n_without_bound": int(table["excess"].isna().sum()),
        "largest_excess": None if table["excess"].isna().all() else float(table["excess"].max()),
        "n_violated": int((table["excess"] > 1).sum()),
        "few_batches": {name: few[name] for name in FEW},
    }
