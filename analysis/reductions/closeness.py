"""The slopes at which the memoryless iteration nears the optimizer (tables of `sim.closeness`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("problem", "optimizer", "correction", "lr", "slope")
FINITE = ("lr", "slope")
"""Columns that are read; those without an empty cell."""


def summarize(table: "pd.DataFrame") -> dict[str, Any]:
    """Find the ranges of the fitted slopes (rows of `sim.closeness`)."""
    import numpy as np

    slopes = table.groupby("correction")["slope"].agg(["min", "max"])
    return {
        "n_decades": float(np.log10(table["lr"].max() / table["lr"].min())),
        "n_cases": len(table.groupby(["problem", "optimizer"])),
        "with": slopes.loc["with"].to_dict(),
        "without": slopes.loc["without"].to_dict(),
    }
