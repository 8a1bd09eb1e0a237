"""Whose implicit bias depends on the batch, and how (tables of `sim.optimizer_bias`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "case",
    "optimizer",
    "batch_size",
    "noise_scale",
    "lam",
    "n_epochs",
    "c_total_limit",
    "c_total_exact",
)
FINITE = ("batch_size", "noise_scale", "lam", "n_epochs", "c_total_limit", "c_total_exact")
"""Columns that are read; those without an empty cell."""


def summarize(table: "pd.DataFrame") -> dict[str, Any]:
    """Describe the curve of every case.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.optimizer_bias`.

    Returns
    -------
    dict
        noise_scale, n_epochs; cases: of each case limit and exact, and of these: full_batch and smallest_batch, C_total
        at the largest and at the smallest batch; change, the difference of the two as a share of the larger absolute
        value; turn, the lambda of the limit and the batch size of the exact value at which C_total is 0 (None:
        nowhere).
    """
    cases = {}
    for case, part in table.groupby("case", sort=False):
        by_size = part.sort_values("batch_size")
        lam, sizes = by_size["lam"].to_numpy(), by_size["batch_size"].to_numpy()
        cases[case] = {
            theory: _curve(x, by_size[f"c_total_{theory}"].to_numpy())
            for theory, x in (("limit", lam), ("exact", sizes))
        }
    first = table.iloc[0]
    return {"noise_scale": float(first["noise_scale"]), "n_epochs": int(first["n_epochs"]), "cases": cases}


def _curve(x: Any, values: Any) -> dict[str, float | None]:
    """Describe values at batch sizes that ascend; x is what a sign change is told in."""
    import numpy as np

    turns = np.flatnonzero(np.diff(np.sign(values)) != 0)
    turn = None
    if len(turns):
        i = int(turns[0])
        share = values[i] / (values[i] - values[i + 1])
        turn = float(x[i] + share * (x[i + 1] - x[i]))
    small, full = float(values[0]), float(values[-1])
    return {
        "smallest_batch": small,
        "full_batch": full,
        "change": abs(small - full) / max(abs(small), abs(full)),
        "turn": turn,
    }
