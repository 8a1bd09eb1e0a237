"""B_simple where it counts: near the least validation perplexity of the runs along which it was measured.

Near are the snapshots of a run between half and one and a half times the epoch of its least validation perplexity. The
middle is the median over runs of B_simple at that snapshot itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    from analysis import tables

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
