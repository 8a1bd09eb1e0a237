"""The rules of the study of the best betas applied to the small Transformer-XL. Written before its recorded runs.

`train.small_study` lists the runs: batch sizes 8, 128, 1024 and 4217 (all windows), on both sides of the noise scale of
some 400 windows; seeds 0 to 3, the even ones one half and the odd ones the other. A pilot on seed 1000 (batch size 128,
lr 0.006, beta2 0.99, seven epochs) chose the lengths of the runs; its noise scale at the best point was 423 windows.

R1 to R4 and R6 are those of `rules`, with the learning rates `LRS` in R1 and the baselines `BASELINES` in R3: the
library's default, and the best value of the published table at its smallest batch. Losses are compared as perplexities.
A curve is judged with `FEWEST_SEEDS` seeds at each of the batch sizes that have any, a slope with all four batch sizes.
A batch size and learning rate count on a curve if at least `FEWEST_BETAS` of its betas have that many seeds there: else
one beta would be tuned over more learning rates than another. (Added when the first records were there, of which the
curves of beta1 and the diagonal had one learning rate only.)
A best learning rate at an end of `LRS` is counted (`at_edge` of R2); where the best of all is there, the grid is to be
extended by a factor of three before the verdict of R2 counts, and until then it is shown with this remark.
`small_study.FURTHER_LRS` are these extensions; tuning chooses among all learning rates of a batch size.

R9 on the pairs that there are, a cross and the diagonal of a map: (beta1, .999), (.9, beta2) and beta1 = beta2.

Dropout: at batch size 128 and lr 0.002, with and without, the gain in percent of perplexity of each beta2 over 0.999,
paired by seed, on validation and test, with the bootstrap interval over seeds; holds: above 0; opposite: below 0.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.bests import METRICS
from analysis.reductions.overfitting.cubes import Cube, cube_of, interval
from analysis.reductions.overfitting.maps import DEFAULT, maps
from analysis.reductions.overfitting.rules import verdict
from analysis.reductions.overfitting.verdicts import FEWEST_SEEDS, judge_curve
from analysis.reductions.sweeps import with_error

if TYPE_CHECKING:
    import pandas as pd

NAME = "transformer-xl"
LRS = (0.001, 0.002, 0.006)
BASELINES = (0.999, 0.972)
FEWEST_BETAS = 3
FIXED = {"beta1": 0.9, "beta2": 0.999}
"""Where the beta that is not swept is held."""
COLUMNS = (
    "dropout", "n_windows", "batch_size", "lr", "beta1", "beta2", "seed", "status", "ended_by", "epoch_of_min",
    "min_valid_perplexity", "test_perplexity", "gradient_l1", "gradient_squared", "sharpness", "trace_covariance",
)  # fmt: skip


def runs_of(table: "pd.DataFrame") -> "pd.DataFrame":
    """Name the columns as the study of the small networks does.

    Parameters
    ----------
    table : pandas.DataFrame
        `COLUMNS`, a row a run of `train.sweep --at-best`.

    Returns
    -------
    pandas.DataFrame
        Columns of `cubes.cubes_of`, and `dropout`; a run that had to stop at its last epoch is unfinished.
    """
    unfinished = (table["status"] == "ok") & (table["ended_by"] == "n_epochs")
    return table.assign(
        task=NAME,
        n_samples=table["n_windows"],
        status=table["status"].mask(unfinished, "unfinished"),
        min_valid_loss=np.log(table["min_valid_perplexity"].astype(float)),
        test_loss=np.log(table["test_perplexity"].astype(float)),
    ).drop_duplicates(["dropout", "batch_size", "lr", "beta1", "beta2", "seed"])


def judge(table: "pd.DataFrame") -> dict[str, list[dict[str, Any]]]:
    """Apply the rules.

    Parameters
    ----------
    table : pandas.DataFrame
        `COLUMNS`, a row a run of `train.sweep --at-best`.

    Returns
    -------
    dict of lists of dict
        `cells`: means over the seeds of each cell that exists; `slopes`, `bests`, `gains`, `rules`, `worse`, `links`,
        `noise` as `verdicts.judge`; `map_cells`, `thumb`: R9, see `maps.maps`; `tops`: the best of all of each curve
        and whether the grid is to be extended there, see `tops_of`; `dropout`.
    """
    runs = runs_of(table)
    names = ("slopes", "bests", "gains", "rules", "worse", "links", "noise")
    result: dict[str, list[dict[str, Any]]] = {"cells": cells_of(runs), **{name: [] for name in names}}
    plain = runs[runs["dropout"] == 0]
    on_diagonal = plain["beta1"] == plain["beta2"]
    curves = {
        "beta2": plain["beta1"] == FIXED["beta1"],
        "beta1": (plain["beta2"] == FIXED["beta2"]) & ~on_diagonal,
        "diagonal": on_diagonal,
    }
    complete = {name: _complete(plain[on_curve]) for name, on_curve in curves.items()}
    for swept in ("beta2", "beta1"):
        part = _cube(plain[curves[swept]], complete[swept])
        if part and len(part.pairs) >= FEWEST_BETAS:
            judge_curve(result, part, part, swept, LRS, BASELINES if swept == "beta2" else BASELINES[:1])
    whole = _cube(plain, complete["diagonal"])
    result["map_cells"], result["thumb"] = maps(whole, LRS) if whole and DEFAULT in whole.pairs else ([], [])
    result["tops"] = [
        row
        for name, on_curve in curves.items()
        for row in tops_of(name, _at(plain[on_curve], complete[name]))
    ]
    result["dropout"] = with_and_without_dropout(runs)
    return result


def _complete(runs: "pd.DataFrame") -> "pd.MultiIndex":
    """Return the batch sizes and learning rates at which enough betas of a curve have enough seeds."""
    n_seeds = runs.groupby(["batch_size", "lr", "beta1", "beta2"])["seed"].nunique()
    n_betas = (n_seeds >= FEWEST_SEEDS).groupby(["batch_size", "lr"]).sum()
    return n_betas.index[n_betas >= FEWEST_BETAS]


def _cube(runs: "pd.DataFrame", there: "pd.MultiIndex") -> Cube | None:
    """Arrange the runs at some batch sizes and learning rates; None if there are none."""
    chosen = _at(runs, there)
    return None if chosen.empty else cube_of(NAME, chosen)


def _at(runs: "pd.DataFrame", there: "pd.MultiIndex") -> "pd.DataFrame":
    """Return the runs at some batch sizes and learning rates."""
    return runs[runs.set_index(["batch_size", "lr"]).index.isin(there)]


def tops_of(curve: str, runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Say where the best of all is, and whether its learning rate is at an end of those that were tried there.

    Parameters
    ----------
    curve : str
    runs : pandas.DataFrame
        Those on the curve, at the learning rates that count.

    Returns
    -------
    list of dict
        A row a batch size: the pair of least mean validation loss over `FEWEST_SEEDS` seeds or more, its learning rate,
        and `at_end`: whether that is the lowest or the highest one, so that the grid is to be extended there.
    """
    rows = []
    for size, part in runs.groupby("batch_size"):
        cells = part.groupby(["lr", "beta1", "beta2"]).agg(
            loss=("min_valid_loss", "mean"),
            n_seeds=("seed", "nunique"),
            flawed=("status", lambda status: (status != "ok").any()),
        )
        whole = cells.loc[(cells["n_seeds"] >= FEWEST_SEEDS) & ~cells["flawed"], "loss"]
        if len(whole):
            lr, beta1, beta2 = whole.idxmin()
            rows.append(
                {"curve": curve, "batch_size": int(str(size)), "lr": lr, "beta1": beta1, "beta2": beta2,
                 "at_end": bool(lr in (part["lr"].min(), part["lr"].max()))}
            )  # fmt: skip
    return rows


def cells_of(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Say of each cell how many runs there are, how many are unfinished or diverged, and what they reach on average.

    `perplexity` with Student's interval, `low` and `high`, is the mean over seeds of the least validation perplexity.
    """
    keys = ["dropout", "batch_size", "lr", "beta1", "beta2"]
    reached = ["min_valid_loss", "test_loss", "epoch_of_min", "gradient_l1", "sharpness"]
    groups = runs.groupby(keys)
    cells = groups[reached].mean()
    cells["n_runs"], cells["n_windows"] = groups.size(), groups["n_windows"].max()
    spread = groups["min_valid_perplexity"].agg(lambda values: with_error(values.to_numpy(float)))
    for i, name in enumerate(("perplexity", "low", "high")):
        cells[name] = [of_cell[i] for of_cell in spread]
    for status in ("unfinished", "diverged"):
        cells[f"n_{status}"] = (runs["status"] == status).groupby([runs[key] for key in keys]).sum()
    return [
        {str(name): value for name, value in row.items()} for row in cells.reset_index().to_dict("records")
    ]


def with_and_without_dropout(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return what each beta2 gains over the default in the one cell that has runs with dropout."""
    dropped = runs[runs["dropout"] > 0]
    if dropped.empty:
        return []
    size, lr = dropped["batch_size"].iloc[0], dropped["lr"].iloc[0]
    there = runs[(runs["batch_size"] == size) & (runs["lr"] == lr) & (runs["beta1"] == FIXED["beta1"])]
    rows = []
    for dropout, some in there.groupby("dropout"):
        cube = cube_of(NAME, some)
        if cube.seeds.size < FEWEST_SEEDS or (FIXED["beta1"], BASELINES[0]) not in cube.pairs:
            continue
        for metric in METRICS:
            value, low, high = _gain_over_default(cube, metric)
            rows += [
                {"dropout": dropout, "batch_size": int(size), "lr": lr, "metric": metric, "beta2": beta2,
                 "gain": value[i], "low": low[i], "high": high[i], "verdict": verdict(low[i], high[i])}
                for i, (_, beta2) in enumerate(cube.pairs)
            ]  # fmt: skip
    return rows


def _gain_over_default(cube: Cube, metric: str) -> tuple[Array, Array, Array]:
    cost = cube.cost(cube.values[metric][:, 0, 0])  # (S, P)
    gain = 100 * (1 - cost / cost[:, [cube.pairs.index((FIXED["beta1"], BASELINES[0]))]])
    return interval(lambda seeds: gain[seeds].mean(axis=-2), [np.arange(cube.seeds.size)])
