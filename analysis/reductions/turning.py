"""How far the limit of C_total is from its exact value at the end of an epoch (tables of `sim.turning`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MAP = ("swept_beta", "beta2", "batch_size", "n_batches", "n_epochs", "c_total_limit", "c_total_exact")
TURNING = ("swept_beta", "n_epochs", "turned_at_limit", "turned_at_exact")
"""Columns of the map and of the turning points that are read."""


def summarize(table: "pd.DataFrame", points: "pd.DataFrame") -> dict[str, Any]:
    """Compare limit and exact C_total at the longest memory, and where beta2 turns (`sim.turning`)."""
    points = points[points["swept_beta"] == "beta2"]
    shift = 100 * (points["turned_at_exact"] / points["turned_at_limit"] - 1).abs()
    swept = table[table["swept_beta"] == "beta2"]
    cells = swept[
        (swept["beta2"] == swept["beta2"].max()) & (swept["batch_size"] == swept["batch_size"].min())
    ]
    ratio = cells["c_total_limit"] / cells["c_total_exact"]
    first, last = int(table["n_epochs"].min()), int(table["n_epochs"].max())
    return {
        "first_epoch": first,
        "last_epoch": last,
        "batch_size": int(cells["batch_size"].iloc[0]),
        "n_batches": int(cells["n_batches"].iloc[0]),
        "beta2": cells["beta2"].iloc[0],
        "ratio_first": ratio[cells["n_epochs"] == first].median(),
        "ratio_last": ratio[cells["n_epochs"] == last].median(),
        "shift_first_percent": shift[points["n_epochs"] == first].max(),
        "shift_last_percent": shift[points["n_epochs"] == last].max(),
    }
