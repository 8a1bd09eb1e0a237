"""What the panels of `train.sweep` show: a cell a setting over its seeds, missing cells included, and paired gains.

Error bars: with three seeds or more the 95 % interval of the mean by Student's t, with two their range, with one none.
"""

import itertools
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEVEL = 0.95
"""Of the intervals."""
INTERVAL, RANGE, NONE = "95 % t-interval of the mean", "range", "none"
"""Kinds of error bars."""
KEYS = ["lr", "batch_size", "beta1", "beta2", "seed"]
"""What tells the runs of a study apart."""
SHARED = [
    *(
        "corpus",
        "max_train_windows",
        "n_layer",
        "n_head",
        "d_model",
        "d_head",
        "d_inner",
        "tgt_len",
        "mem_len",
    ),
    *("dropout", "dropatt", "eps", "eps_root", "weight_decay", "shuffle"),
]
"""Settings in which all runs must agree, or their perplexities are not of one study."""
OUTCOME = ["min_valid_perplexity", "epoch_of_min", "n_windows", "status"]
OTHER = {"beta1": "beta2", "beta2": "beta1"}
"""The beta that is held fixed while one is swept."""


def read_runs(paths: list[str]) -> "pd.DataFrame":
    """Read tables of runs; of a run that occurs twice (a beta on both curves) the first is kept.

    Parameters
    ----------
    paths : list of str
        May be empty.

    Returns
    -------
    pandas.DataFrame
        `KEYS`, `SHARED`, `OUTCOME`; `min_valid_perplexity` is nan for a run that diverged.

    Raises
    ------
    InputError
        A table that is none of `train.sweep`; runs of different studies.
    """
    import pandas as pd

    from analysis.inputs import tables

    columns = [*KEYS, *SHARED, *OUTCOME]
    if not paths:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns})
    runs = tables.read(paths, columns)[columns]
    for name in SHARED:
        values = sorted(map(str, runs[name].unique()))
        if len(values) > 1:
            raise InputError(
                f"column {name!r} of the tables holds {' and '.join(values[:2])}, allowed: one value"
            )
    runs.loc[runs["status"] == "diverged", "min_valid_perplexity"] = float("nan")
    return runs.drop_duplicates(KEYS).reset_index(drop=True)


def cells(runs: "pd.DataFrame", swept: str, fixed: float, wanted: dict[str, list]) -> "pd.DataFrame":
    """Reduce runs over their seeds, and add the cells that are wanted and have no run.

    Parameters
    ----------
    runs : pandas.DataFrame
        See `read_runs`.
    swept : {"beta1", "beta2"}
    fixed : float
        Value of the other beta.
    wanted : dict from str to list
        Values of "lr", "batch_size" and the swept beta: the grid.

    Returns
    -------
    pandas.DataFrame
        A row a cell, ascending: lr, batch_size, beta1, beta2; n_seeds, of which n_diverged; mean, low, high (ends of
        the error bar) and error (its kind) over those that did not diverge; epoch (mean of that of the minimum);
        status: "measured", "diverged" (every run), "missing".
    """
    import pandas as pd

    names = ["lr", "batch_size", swept]
    groups = dict(iter(runs.groupby(names)))
    keys = set(groups) | set(itertools.product(*(wanted[name] for name in names)))
    rows = []
    for key in sorted(keys):
        part = groups.get(key, runs.iloc[:0])
        finished = part.dropna(subset="min_valid_perplexity")
        mean, low, high, error = with_error(finished["min_valid_perplexity"].to_numpy(float))
        row = dict(zip(names, key, strict=True)) | {OTHER[swept]: fixed}
        row |= {"n_seeds": len(part), "n_diverged": len(part) - len(finished)}
        row |= {"mean": mean, "low": low, "high": high, "error": error}
        row["epoch"] = float(finished["epoch_of_min"].mean())
        row["status"] = "measured" if len(finished) else "diverged" if len(part) else "missing"
        rows.append({name: row[name] for name in ("lr", "batch_size", "beta1", "beta2")} | row)
    return pd.DataFrame(rows)


def with_error(values: "np.ndarray") -> tuple[float, float, float, str]:
    """Return the mean over seeds, the ends of its error bar and their kind (module docstring).

    Parameters
    ----------
    values : (n_seeds,) ndarray
        Finite; may be empty: then all nan.

    Returns
    -------
    mean, low, high : float
    error : str
        `INTERVAL`, `RANGE` or `NONE` (low = high = mean).
    """
    n = len(values)
    if n == 0:
        return float("nan"), float("nan"), float("nan"), NONE
    mean = float(values.mean())
    if n < 3:
        return mean, float(values.min()), float(values.max()), (NONE, RANGE)[n - 1]
    from scipy import special

    quantile = float(special.stdtrit(n - 1, (1 + LEVEL) / 2))  # of Student's distribution
    half = quantile * float(values.std(ddof=1)) / n**0.5
    return mean, mean - half, mean + half, INTERVAL


def error_bar(values: "pd.Series") -> tuple[float, float]:
    """Return the ends of the error bar of `with_error`, nan without one: seaborn's `errorbar`."""
    _, low, high, error = with_error(values.to_numpy(float))
    return (low, high) if error != NONE else (float("nan"), float("nan"))


def paired_gain(runs: "pd.DataFrame", swept: str, value: float, baseline: float) -> tuple[int, Any]:
    """Gain of one beta over another in percent of perplexity, 100 (1 - p / p_baseline), seed by seed.

    Both runs of a pair share initial weights, order of the windows and dropout, so that what they have in common
    drops out.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of one learning rate and batch size.
    swept : {"beta1", "beta2"}
    value, baseline : float

    Returns
    -------
    n_paired : int
        Seeds with which both did not diverge.
    gain : (mean, low, high, error)
        See `with_error`.
    """
    one, other = (
        runs[runs[swept] == at].set_index("seed")["min_valid_perplexity"].dropna() for at in (value, baseline)
    )
    gains = (100 * (1 - one / other)).dropna().to_numpy(float)
    return len(gains), with_error(gains)


def error_words(table: "pd.DataFrame") -> str:
    """Say in a few words over how many seeds cells are averaged, and what their bars are."""
    done = table[table["status"] == "measured"]
    if done.empty:
        return "no run yet"
    n = sorted(set(done["n_seeds"].tolist()))
    seeds = f"{n[0]} seed{'s' * (n[0] > 1)}" if len(n) == 1 else f"{n[0]} to {n[-1]} seeds"
    kinds = [kind for kind in (INTERVAL, RANGE) if kind in set(done["error"])]
    return seeds + (f"; bars: {' or '.join(kinds)}" if kinds else "")
