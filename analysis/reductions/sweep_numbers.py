"""What the article quotes of the sweeps: bests and gains, and what of the published grid exists."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def summarize(paths: list[str]) -> dict[str, Any]:
    """Sum up the bests (tables of `analysis.best_betas`, one a swept beta).

    Parameters
    ----------
    paths : list of str

    Returns
    -------
    dict
        n_seeds (the fewest), n_diverged, error (kind of the bars of the means), and a list of rows under "beta1" and
        "beta2"; what a row leaves empty is None.
    """
    from analysis.inputs import tables

    columns = ["swept", "status", "n_seeds", "n_diverged", "error", "gain_low", "gain_high"]
    table = tables.read(paths, columns)
    done = table.dropna(subset="n_seeds")
    kinds = done["error"].unique()
    return {
        "n_seeds": int(done["n_seeds"].min()) if len(done) else 0,
        "n_diverged": int(table["n_diverged"].sum()),
        "error": kinds[0] if len(kinds) == 1 else "mixed",
        **{swept: records(table[table["swept"] == swept]) for swept in ("beta1", "beta2")},
    }


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return rows as dicts with None for what is empty."""
    rows = table.to_dict("records")
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]
