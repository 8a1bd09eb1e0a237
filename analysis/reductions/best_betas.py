"""The best beta of each learning rate and batch size, and its gain over a baseline.

Best is the least mean of minimal validation perplexity among the values of which no run diverged. Its gain over the
baseline is taken seed by seed and then averaged; the error is that of those paired gains. The best is chosen on the
same runs that measure its gain, so the gain errs upwards. `beta_low` to `beta_high` are the values that, paired in
the same way, the runs cannot tell from the best; empty with one seed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

EMPTY = (
    "n_windows n_seeds best_beta epoch mean low high error at_edge beta_low beta_high shortest_beta "
    "shortest_loss_percent gain_percent gain_low gain_high gain_error n_paired"
)
"""Columns that a cell without a best leaves empty."""
PUBLISHED = {"best_beta2": "published_best_beta", "gain_percent": "published_gain_percent"}


def best_rows(
    runs: "pd.DataFrame", cells: "pd.DataFrame", swept: str, baseline: float
) -> list[dict[str, Any]]:
    """Reduce each learning rate and batch size to its best beta.

    Parameters
    ----------
    runs, cells : pandas.DataFrame
        See `analysis.reductions.sweeps.read_cells`.
    swept : {"beta1", "beta2"}
    baseline : float
        Value of the swept beta.

    Returns
    -------
    list of dict
        swept, lr, batch_size; status: "missing" (no run), "partial" (some values of the grid have none), "measured";
        n_betas of n_wanted values; n_diverged runs; and `EMPTY`, None where there is none: a best needs two values.
    """
    rows = []
    for (lr, batch_size), part in cells.groupby(["lr", "batch_size"]):
        own = runs[(runs["lr"] == lr) & (runs["batch_size"] == batch_size)]
        n_betas, n_wanted = int((part["status"] != "missing").sum()), len(part)
        status = "missing" if not n_betas else "partial" if n_betas < n_wanted else "measured"
        row = {"swept": swept, "lr": lr, "batch_size": int(batch_size), "status": status}
        row |= {"n_betas": n_betas, "n_wanted": n_wanted, "n_diverged": int(part["n_diverged"].sum())}
        row |= {"baseline": baseline} | dict.fromkeys(EMPTY.split())
        finished = part[(part["status"] == "measured") & (part["n_diverged"] == 0)]
        if len(finished) > 1:
            row |= _best(own, finished, swept, baseline)
        rows.append(row)
    return rows


def _best(runs: "pd.DataFrame", finished: "pd.DataFrame", swept: str, baseline: float) -> dict[str, Any]:
    """Columns `EMPTY` of one learning rate and batch size."""
    from analysis.reductions.sweeps import NONE, paired_gain

    best = finished.loc[finished["mean"].idxmin()]
    value, betas = float(best[swept]), finished[swept]
    alike = [value] if best["n_seeds"] > 1 else []
    for other in betas[betas != value]:
        n_paired, (_, low, _, _) = paired_gain(runs, swept, value, other)
        if n_paired > 1 and low <= 0:
            alike.append(float(other))
    n_paired, (mean, low, high, error) = paired_gain(runs, swept, value, baseline)
    shortest = finished.loc[betas.idxmin()]
    gain = {
        "gain_percent": mean,
        "gain_low": low,
        "gain_high": high,
        "gain_error": error,
        "n_paired": n_paired,
    }
    if not n_paired:
        gain = dict.fromkeys(gain)
    elif error == NONE or value == baseline:
        gain |= {"gain_low": None, "gain_high": None}
    edge = {betas.min(): "shortest memory", betas.max(): "longest memory"}
    return {
        "n_windows": int(runs["n_windows"].iloc[0]),
        "n_seeds": int(finished["n_seeds"].min()),
        "best_beta": value,
        **{name: best[name] for name in ("epoch", "mean", "low", "high", "error")},
        "at_edge": edge.get(value),
        "beta_low": min(alike, default=None),
        "beta_high": max(alike, default=None),
        "shortest_beta": float(shortest[swept]),
        "shortest_loss_percent": 100 * (shortest["mean"] / best["mean"] - 1),
        **gain,
    }


def join_published(rows: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """Put the published best and gain beside each row, None where none was published.

    Parameters
    ----------
    rows : list of dict
        See `best_rows`.
    path : str
        CSV with lr, batch_size, best_beta2, gain_percent, such as `analysis/published/table1.csv`.
    """
    from analysis.inputs import tables

    published = tables.read([path], ["lr", "batch_size", *PUBLISHED])
    result = []
    for row in rows:
        near = (published["lr"] / row["lr"] - 1).abs() < 1e-6
        match = published[near & (published["batch_size"] == row["batch_size"])]
        found = [(new, None if match.empty else match[old].iloc[0]) for old, new in PUBLISHED.items()]
        result.append(row | dict(found))
    return result
