"""Means over seeds of the studies of feature noise, and the thresholds of their rules.

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
NEAR, FINE, FAILS, SMALL_ERROR, FAILS_TEST = 0.05, 0.01, 0.25, 0.05, 0.4
CRITICAL_CORRELATION = 0.648
"""Of Spearman's correlation at 5%, two-sided, 10 pairs."""


def last_measurements(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the last measurement of each run."""
    return table.loc[table.groupby(["case", "seed"], sort=False)["step"].idxmax()]


SETTINGS = (
    *("optimizer", "batch_size", "n_samples", "weight_decay", "lr", "init_std", "q", "eps", "eps_root"),
    *("bias_correction", "n_steps", "beta1", "beta2", "replacement"),
    *("batch", "layout", "noise_norm", "form"),
)
"""Columns that say what a case is."""


def cells(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return means and standard deviations over seeds of the last measurement of each case, in order.

    Parameters
    ----------
    table : pandas.DataFrame
        See `analysis.inputs.feature_noise.read`.

    Returns
    -------
    list of dict
        case, a label; `SETTINGS`; n_seeds; train_error, test_error, signal, noise: means; test_error_std, stderr: of
        the test error, 0 for one seed; test_errors: each seed's, ascending.
    """
    rows = []
    for case, part in last_measurements(table).groupby("case", sort=False):
        first, n = part.iloc[0], len(part)
        std = float(part["test_error"].std(ddof=1)) if n > 1 else 0.0
        settings = {name: first[name] for name in SETTINGS}
        rows.append(
            {
                "case": case,
                **{
                    name: value if isinstance(value, str) else value.item()
                    for name, value in settings.items()
                },
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


def reproduces(cell: dict[str, Any], published: float) -> bool:
    """Whether a cell meets the rule for a published test error, with training error 0."""
    near = abs(cell["test_error"] - published) <= max(NEAR, 3 * cell["test_error_std"])
    return near and cell["train_error"] == 0
