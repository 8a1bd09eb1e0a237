"""What the article's text quotes of the sweeps: bests and gains, noise scale, and what of the published grid exists."""

import json
import math
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def summarize_sweep(paths: list[str]) -> dict[str, Any]:
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
    from analysis import tables

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


def summarize_noise_scale(paths: list[str], critical: str) -> dict[str, Any]:
    """Sum up B_simple (tables of `train.noise_scale`) and the critical batch sizes (of `analysis.plot_best_beta2`).

    Parameters
    ----------
    paths : list of str
        Tables; may be empty.
    critical : str
        Path of JSON.
    """
    from analysis.reductions import noise_scales

    with open(critical, encoding="utf-8") as file:
        try:
            summary = json.load(file)
        except ValueError as error:
            raise InputError(f"{critical}: is not JSON ({error})") from error
    if not paths:
        return {"n_snapshots": 0, "critical": summary}
    table = noise_scales.read(paths)
    first, last, best = table.iloc[0], table.iloc[-1], table.loc[table["valid_perplexity"].idxmin()]
    ratio = {name: best[f"component_{name}"] / best["b_simple"] for name in ("q05", "q50", "q95")}
    return {
        "n_snapshots": len(table),
        "n_samples": int(table["n_samples"].max()),
        **{name: int(best[name]) for name in ("batch_size",)},
        **{f"{name}_epoch": row["epoch"] for name, row in (("first", first), ("best", best), ("last", last))},
        **{name: row["noise_scale"] for name, row in (("first", first), ("best", best), ("last", last))},
        "components": ratio,
        "critical": summary,
    }
