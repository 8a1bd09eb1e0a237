"""Means over seeds of the studies of stochastic Adam, and the thresholds of their rules.

The rules are those of `sim.feature_noise.studies`, written down before the runs.
"""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = {
    ("adam", "large"): 0.9545,
    ("adamw", "large"): 0.5485,
    ("adam", "small"): 0.0,
    ("adamw", "small"): 0.0,
}
"""Test errors of the published table; the training errors are all 0."""
NEAR, FINE, FAILS, SMALL_ERROR = 0.05, 0.01, 0.25, 0.05
CRITICAL_CORRELATION = 0.648
"""Of Spearman's correlation at 5%, two-sided, 10 pairs."""


def ends(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the last measurement of each run."""
    return table.loc[table.groupby(["case", "seed"], sort=False)["step"].idxmax()]


def cells(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return means and standard deviations over seeds of the last measurement of each case, in order."""
    rows = []
    for case, part in ends(table).groupby("case", sort=False):
        first, n = part.iloc[0], len(part)
        std = float(part["test_error"].std(ddof=1)) if n > 1 else 0.0
        rows.append(
            {
                "case": case,
                **{
                    name: first[name].item()
                    for name in ("batch_size", "n_samples", "weight_decay", "lr", "init_std")
                },
                **{
                    name: first[name].item()
                    for name in ("q", "eps", "eps_root", "bias_correction", "n_steps")
                },
                **{name: first[name].item() for name in ("beta1", "beta2")},
                "optimizer": first["optimizer"],
                "n_seeds": n,
                "train_error": float(part["train_error"].mean()),
                "test_error": float(part["test_error"].mean()),
                "test_error_std": std,
                "test_errors": sorted(part["test_error"].tolist()),
                "stderr": std / math.sqrt(n),
                "signal": float(part[["signal_plus", "signal_minus"]].min(axis=1).mean()),
                "noise": float(part["noise"].mean()),
            }
        )
    return rows


def size(cell: dict[str, Any]) -> str:
    """Return "small" for batch 2, else "large"."""
    return "small" if cell["batch_size"] == 2 else "large"


def reproduces(cell: dict[str, Any], published: float) -> bool:
    """Whether a cell meets the rule for a published test error, with training error 0."""
    near = abs(cell["test_error"] - published) <= max(NEAR, 3 * cell["test_error_std"])
    return near and cell["train_error"] == 0
