"""B_simple where it counts: near the least validation perplexity of the runs along which it was measured.

Near are the snapshots of a run between half and one and a half times the epoch of its least validation perplexity. The
middle is the median over runs of B_simple at that snapshot itself.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

NEAR = (0.5, 1.5)
"""Epochs at which B_simple counts, as a multiple of the epoch of least validation perplexity."""
RUN = ["corpus", "lr", "batch_size", "beta1", "beta2", "seed"]
"""Columns that tell one run from another."""
COLUMNS = [*RUN, "epoch", "valid_perplexity", "n_samples", "b_simple", "b_simple_estimate"]


@dataclass(frozen=True)
class NoiseScale:
    """B_simple near the minimum of validation perplexity, in windows."""

    low: float
    middle: float
    high: float


def read(paths: list[str]) -> "pd.DataFrame":
    """Read tables of `train.noise_scale`.

    Parameters
    ----------
    paths : list of str
        At least one.

    Returns
    -------
    pandas.DataFrame
        By run and epoch, with a column `noise_scale`: exact, or else the estimate.
    """
    from analysis.inputs import tables

    table = tables.read(paths, COLUMNS)
    table["noise_scale"] = table["b_simple"].fillna(table["b_simple_estimate"])
    return table.sort_values([*RUN, "epoch"]).reset_index(drop=True)


def near_minimum(table: "pd.DataFrame") -> NoiseScale:
    """Reduce rows of `read` (module docstring)."""
    import numpy as np

    middles, near = [], []
    for _, part in table.groupby(RUN):
        best = part.loc[part["valid_perplexity"].idxmin()]
        middles.append(best["noise_scale"])
        near += part["noise_scale"][part["epoch"].between(*(x * best["epoch"] for x in NEAR))].tolist()
    return NoiseScale(float(min(near)), float(np.median(middles)), float(max(near)))


def summarize(paths: list[str], critical: str) -> dict[str, Any]:
    """Sum up B_simple (tables of `train.noise_scale`) and the critical batch sizes (of `analysis.plot_best_beta2`).

    Parameters
    ----------
    paths : list of str
        Tables; may be empty.
    critical : str
        Path of JSON.
    """
    with open(critical, encoding="utf-8") as file:
        try:
            summary = json.load(file)
        except ValueError as error:
            raise InputError(f"{critical}: is not JSON ({error})") from error
    if not paths:
        return {"n_snapshots": 0, "critical": summary}
    table = read(paths)
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
