"""What the theory expects of the best beta2 at a measured noise scale: critical batch sizes, and the best beta2.

Both in the limit of infinitely many steps (`theory.c_total`) and exactly at the end of an epoch
(`expansion.second_order`). In the limit the critical batch size is where lam = 1/2 (`theory.critical_batch_size`),
exactly it is the smallest from which on C_total falls with beta2 (`turned_at` of `sim.turning`).
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from adam_minibatch_noise.theory import Array
    from analysis.reductions.noise_scales import NoiseScale

LIMIT, EXACT = "limit", "exact"
N_CURVE, N_BETAS = 80, 45
"""Batch sizes and betas of the curves."""


def expected(
    table: "pd.DataFrame", noise: "NoiseScale", beta1: float
) -> tuple[dict[str, Any], "pd.DataFrame"]:
    """Return what the theory expects where the runs were measured.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `analysis.best_betas`, at least one row with a best.
    noise : NoiseScale
    beta1 : float

    Returns
    -------
    summary : dict
        n_samples; n_epochs, the median epoch of the minima; noise_scale; critical: see `critical_batch_sizes`.
    curves : pandas.DataFrame
        A row a batch size and theory: batch_size, theory (`LIMIT` or `EXACT`), beta2 of largest C_total at the middle
        noise scale.
    """
    import numpy as np
    import pandas as pd

    n_samples, n_epochs = int(table["n_windows"].max()), max(1, round(table["epoch"].median()))
    low, high = 0.8 * table["batch_size"].min(), min(1.25 * table["batch_size"].max(), n_samples)
    critical = critical_batch_sizes(noise, n_samples, n_epochs, beta1, max(1, int(low / 2)))
    ends = [value for values in critical.values() for value in values if value]
    ends = [max(1, min(low, 0.8 * min(ends))), min(n_samples, max(high, 1.25 * max(ends)))]
    sizes = np.unique(np.geomspace(ends[0], ends[1], N_CURVE).astype(int)).tolist()
    betas = 1 - np.geomspace(0.231, 0.001, N_BETAS)
    best = expected_best(noise.middle, sizes, betas, n_samples, n_epochs, beta1)
    curves = [
        pd.DataFrame({"batch_size": sizes, "theory": theory, "beta2": best[theory]})
        for theory in (EXACT, LIMIT)
    ]
    summary = {"n_samples": n_samples, "n_epochs": n_epochs, "noise_scale": asdict(noise)}
    return summary | {"critical": critical}, pd.concat(curves, ignore_index=True)


def critical_batch_sizes(
    noise: "NoiseScale", n_samples: int, n_epochs: int, beta1: float, min_batch_size: int
) -> dict[str, list[float | None]]:
    """Critical batch sizes of both theories at the three noise scales.

    Parameters
    ----------
    noise : NoiseScale
    n_samples, n_epochs : int
    beta1 : float
    min_batch_size : int
        Smallest looked at.

    Returns
    -------
    dict
        `LIMIT` and `EXACT`: low, middle, high; None where C_total does not turn at a batch size that was looked at.
    """
    from adam_minibatch_noise.expansion.turning_points import turning_points
    from adam_minibatch_noise.theory import critical_batch_size

    scales = list(asdict(noise).values())
    exact = turning_points("beta2", beta1, n_samples, scales, [n_epochs], min_batch_size)
    return {
        LIMIT: [float(critical_batch_size(n_samples, scale, 0.5)) for scale in scales],
        EXACT: [row["turned_at_exact"] for row in exact],
    }


def expected_best(
    noise_scale: float, sizes: list[int], betas: "Array", n_samples: int, n_epochs: int, beta1: float
) -> dict[str, "Array"]:
    """Return the beta2 of largest C_total at each batch size, for both theories, (n_sizes,) each.

    Parameters
    ----------
    noise_scale : float
    sizes : list of int
    betas : (n_betas,) ndarray
        Values of beta2 to choose from.
    n_samples, n_epochs : int
    beta1 : float
    """
    import numpy as np

    from adam_minibatch_noise.expansion.turning_points import coefficients, epoch_geometry, sweep
    from adam_minibatch_noise.theory import c_total

    best: dict[str, list[float]] = {LIMIT: [], EXACT: []}
    rule, _ = sweep("beta2", betas.tolist(), beta1)
    for size in sizes:
        n_batches, v, correlation = epoch_geometry(n_samples, size)
        forward, noise = coefficients(rule, n_batches, n_epochs)
        lam = v * noise_scale
        best[LIMIT].append(betas[np.argmax(c_total(beta1, betas, lam))])
        best[EXACT].append(betas[np.argmax(forward + lam * (noise[0] + correlation * noise[1]))])
    return {theory: np.array(values) for theory, values in best.items()}
