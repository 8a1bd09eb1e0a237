"""C_total as two numbers for each pair of betas, so that a page can redraw it for any batch size and noise scale.

C_total = FB + (C1 + C2) lam is linear in lam, and at the last step of an epoch FB and C1 + C2 depend on the betas, on
the number of batches of an epoch and on that of epochs alone, if every sample is used.
"""

from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.expansion.turning_points import c_total_map
from adam_minibatch_noise.theory import c1, c2, forward_bias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

BETA1 = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
BETA2 = tuple(round(1 - 10 ** (-0.3 - k / 8), 6) for k in range(25))
"""From 0.5 to 0.9995, evenly in the logarithm of the memory."""
N_BATCHES = tuple(2**k for k in range(10))
N_EPOCHS = (1, 2, 5, 10, 20, 50)
_N_SAMPLES = 2**20
MEASURED = ("batch_size", "best_beta", "beta_low", "beta_high")
"""Columns of `analysis.best_betas` that the page shows."""


def exact_parts(
    beta1: "Sequence[float]" = BETA1,
    beta2: "Sequence[float]" = BETA2,
    n_batches: "Sequence[int]" = N_BATCHES,
    n_epochs: "Sequence[int]" = N_EPOCHS,
) -> list[dict[str, float]]:
    """FB and C1 + C2 at the end of a number of epochs.

    Parameters
    ----------
    beta1, beta2 : sequence of float
        In [0, 1), `beta2` ascending.
    n_batches : sequence of int
        Powers of 2.
    n_epochs : sequence of int

    Returns
    -------
    list of dict
        One a combination: beta1, beta2, n_batches, n_epochs, forward, noise; six digits.
    """
    rows = []
    for first in beta1:
        sizes = [_N_SAMPLES // n for n in n_batches]
        found = c_total_map("beta2", first, _N_SAMPLES, sizes, [1.0, 2.0], n_epochs, beta2)
        by_scale: dict[float, list[dict[str, Any]]] = {1.0: [], 2.0: []}
        for row in found:
            by_scale[row["noise_scale"]].append(row)
        for one, two in zip(by_scale[1.0], by_scale[2.0], strict=True):
            step = two["c_total_exact"] - one["c_total_exact"]
            noise = step / one["lam"] if one["lam"] else 0.0
            names = ("beta1", "beta2", "n_batches", "n_epochs")
            parts = {"forward": one["c_total_exact"] - step, "noise": noise}
            rows.append(
                {name: one[name] for name in names} | {k: float(f"{v:.6g}") for k, v in parts.items()}
            )
    return rows


def limit_parts(beta1: "Sequence[float]" = BETA1, beta2: "Sequence[float]" = BETA2) -> list[dict[str, float]]:
    """FB and C1 + C2 as n -> infinity; as `exact_parts`, without epochs."""
    return [
        {
            "beta1": b,
            "beta2": r,
            "forward": float(f"{float(forward_bias(b, r)):.6g}"),
            "noise": float(f"{float(c1(b, r) + c2(b, r)):.6g}"),
        }
        for b in beta1
        for r in beta2
    ]


def measured_bests(table: "pd.DataFrame", source: str) -> list[dict[str, Any]]:
    """Best beta2 of each batch size that was measured, with its range.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns `MEASURED`; a cell without a best is left out.
    source : str
        Shown beside each.

    Returns
    -------
    list of dict
        batch_size, best, low, high, source.
    """
    rows = table.dropna(subset="best_beta")
    low, high = (rows[name].fillna(rows["best_beta"]) for name in ("beta_low", "beta_high"))
    columns = [rows["batch_size"].tolist(), rows["best_beta"].tolist(), low.tolist(), high.tolist()]
    names = ("batch_size", "best", "low", "high")
    return [dict(zip(names, row, strict=True)) | {"source": source} for row in zip(*columns, strict=True)]
