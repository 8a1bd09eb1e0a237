"""The runs of a variant as arrays over seeds, batch sizes, learning rates and pairs of betas; choices among them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.rules import CONFIDENCE, N_RESAMPLES
from sim.small_networks.study import CURVES, OPTIMIZERS, VARIANTS

if TYPE_CHECKING:
    import pandas as pd

METRICS = (
    "min_valid_loss", "test_loss", "epoch_of_min", "gradient_l1", "gradient_squared", "sharpness", "trace_covariance",
)  # fmt: skip
BATCH = 250
"""Resamples computed at a time: some hundred megabytes."""
TEXT = ("characters", "words", "transformer-xl")
"""Tasks whose losses are compared as perplexities."""


@dataclass(frozen=True)
class Cube:
    """Runs of a variant.

    Attributes
    ----------
    variant, task : str
    n_samples : int
    seeds, sizes, lrs : ndarray
        (S,), (B,), (L,).
    pairs : tuple
        (beta1, beta2), or names of `study.OPTIMIZERS` in variants that train these; P of them.
    values : dict of ndarray, shape (S, B, L, P)
        By metric; nan where there is no run, infinite where it diverged.
    usable : ndarray of bool, shape (B, L, P)
        Cells that can be a best: a run for every seed, none unfinished.
    unfinished : ndarray of bool, shape (B, L, P)
        Cells with an unfinished run.
    """

    variant: str
    task: str
    n_samples: int
    seeds: np.ndarray
    sizes: np.ndarray
    lrs: np.ndarray
    pairs: tuple[Any, ...]
    values: dict[str, Array]
    usable: np.ndarray
    unfinished: np.ndarray

    @property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the even seeds and of the odd ones."""
        return np.flatnonzero(self.seeds % 2 == 0), np.flatnonzero(self.seeds % 2 == 1)

    def curve(self, name: str) -> "Cube":
        """Return the runs along a curve of betas, in its order."""
        return self.of_pairs([self.pairs.index(pair) for pair in CURVES[name] if pair in self.pairs])

    def of_pairs(self, places: Sequence[int]) -> "Cube":
        """Return the runs of some pairs of betas."""
        return replace(
            self,
            pairs=tuple(self.pairs[p] for p in places),
            values={name: value[..., places] for name, value in self.values.items()},
            usable=self.usable[..., places],
            unfinished=self.unfinished[..., places],
        )

    def of_lr(self, place: int) -> "Cube":
        """Return the runs of one learning rate."""
        return replace(
            self,
            lrs=self.lrs[[place]],
            values={name: value[:, :, [place]] for name, value in self.values.items()},
            usable=self.usable[:, [place]],
            unfinished=self.unfinished[:, [place]],
        )

    def of_seeds(self, seeds: np.ndarray) -> "Cube":
        """Return the runs of some seeds, of those that there are."""
        places = np.flatnonzero(np.isin(self.seeds, seeds))
        return replace(
            self,
            seeds=self.seeds[places],
            values={name: value[places] for name, value in self.values.items()},
        )

    @property
    def replacement(self) -> bool:
        """Whether batches are drawn with replacement."""
        return self.variant in VARIANTS and bool(VARIANTS[self.variant].settings.get("replacement", False))

    def cost(self, loss: Array) -> Array:
        """Turn losses into what is compared: perplexities for text."""
        return np.exp(loss) if self.task in TEXT else loss


def cubes_of(table: "pd.DataFrame") -> dict[str, Cube]:
    """Arrange the runs of `sim.overfitting_study`.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one or more variants. Seeds that not every batch size of a variant has are left out.

    Returns
    -------
    dict of Cube
        By variant, in the order of the study.
    """
    groups = dict(tuple(table.groupby("variant")))
    return {name: cube_of(name, groups[name]) for name in VARIANTS if name in groups}


def cube_of(name: str, table: "pd.DataFrame") -> Cube:
    """Arrange the runs of one variant, called `name`; columns as in `cubes_of`."""
    table = table.assign(pair=_pairs(name, table))
    table = table.drop_duplicates(["seed", "batch_size", "lr", "pair"])
    sizes, lrs = np.sort(table["batch_size"].unique()).astype(int), np.sort(table["lr"].unique())
    seeds_of = table.groupby("batch_size")["seed"].agg(set)
    seeds = np.array(sorted(set.intersection(*seeds_of)), int)
    table = table[table["seed"].isin(seeds)]
    pairs = tuple(sorted(set(table["pair"])))
    shape = len(seeds), len(sizes), len(lrs), len(pairs)
    place = (
        np.searchsorted(seeds, table["seed"]),
        np.searchsorted(sizes, table["batch_size"]),
        np.searchsorted(lrs, table["lr"]),
        np.array([pairs.index(pair) for pair in table["pair"]]),
    )
    diverged = (table["status"] == "diverged").to_numpy()
    values = {}
    for metric in METRICS:
        values[metric] = np.full(shape, np.nan)
        values[metric][place] = np.where(diverged, np.inf, table[metric].to_numpy(float))
    is_unfinished = np.zeros(shape, bool)
    is_unfinished[place] = table["status"] == "unfinished"
    unfinished = np.asarray(is_unfinished.any(axis=0))
    usable = ~np.isnan(values["min_valid_loss"]).any(axis=0) & ~unfinished
    return Cube(
        name, str(table["task"].iloc[0]), int(table["n_samples"].max()), seeds, sizes, lrs, pairs, values, usable,
        unfinished,
    )  # fmt: skip


def _pairs(name: str, table: "pd.DataFrame") -> list[Any]:
    """Return what the runs of a variant differ in beside seed, batch size and learning rate, a row each."""
    if name not in VARIANTS or not VARIANTS[name].optimizers:
        return list(zip(table["beta1"].fillna(0.0), table["beta2"], strict=True))
    names = {(case["optimizer"], case["beta2"]): label for label, case in OPTIMIZERS.items()}
    return [names[run] for run in zip(table["optimizer"], table["beta2"], strict=True)]


def mean_of(cube: Cube, metric: str, seeds: np.ndarray) -> Array:
    """Return the mean of a metric over some seeds, (..., B, L, P) for places of seeds (..., n)."""
    return cube.values[metric][seeds].mean(axis=-4)


def choose_lr(cube: Cube, seeds: np.ndarray) -> np.ndarray:
    """Return the place of the learning rate of least mean validation loss, (..., B, P); -1 where there is none.

    There is none, either, where the least loss is that of a cell with an unfinished run: more epochs may lower it.
    """
    mean = _mean_so_far(cube, seeds)
    chosen = mean.argmin(axis=-2)
    unfinished = np.take_along_axis(
        np.broadcast_to(cube.unfinished, mean.shape), chosen[..., None, :], axis=-2
    )
    known = np.isfinite(at_lr(mean, chosen)) & ~unfinished[..., 0, :]
    return np.where(known, chosen, -1)


def has_best(cube: Cube, seeds: np.ndarray) -> np.ndarray:
    """Whether the least mean validation loss of a batch size is that of a cell without unfinished runs, (..., B)."""
    mean = _mean_so_far(cube, seeds)
    lowest = mean.reshape(*mean.shape[:-2], -1).argmin(axis=-1)
    unfinished = np.broadcast_to(cube.unfinished, mean.shape).reshape(*mean.shape[:-2], -1)
    return ~np.take_along_axis(unfinished, lowest[..., None], axis=-1)[..., 0]


def _mean_so_far(cube: Cube, seeds: np.ndarray) -> Array:
    """Return mean validation losses of all cells, unfinished ones too; infinite where a seed has no run."""
    mean = mean_of(cube, "min_valid_loss", seeds)
    return np.where(np.isnan(mean), np.inf, mean)


def at_lr(values: Array, chosen: np.ndarray) -> Array:
    """Return (..., B, P) of (..., B, L, P) at the chosen learning rates; nan where there is none."""
    taken = np.take_along_axis(values, np.maximum(chosen, 0)[..., None, :], axis=-2)[..., 0, :]
    return np.where(chosen >= 0, taken, np.nan)


def tuned(cube: Cube, one: np.ndarray, other: np.ndarray, metric: str = "min_valid_loss") -> Array:
    """Return a metric at learning rates chosen on the other half of the seeds, both ways round, averaged: (..., B, P).

    Nowhere of a batch size that has no best (`has_best`) on either half: nan.

    Parameters
    ----------
    cube : Cube
    one, other : ndarrays of int, shape (..., n)
        Places of the seeds of the halves, repeated where a resample repeats them.
    metric : str, optional
        One of `METRICS`.
    """
    halves = [at_lr(mean_of(cube, metric, b), choose_lr(cube, a)) for a, b in ((one, other), (other, one))]
    known = has_best(cube, one) & has_best(cube, other)
    return np.where(known[..., None], (halves[0] + halves[1]) / 2, np.nan)


def interval(
    statistic: Callable[..., Any], samples: Iterable[np.ndarray], seed: int = 0
) -> tuple[Array, Array, Array]:
    """Return a statistic and the ends of its bootstrap interval.

    Parameters
    ----------
    statistic : callable
        Of arrays of places of seeds, one a sample, each (..., n) with a row a resample; returns (..., k).
    samples : iterable of (n,) ndarrays of int
        Resampled each by itself.
    seed : int, optional
        Of the resamples.

    Returns
    -------
    value, low, high : ndarrays, shape (k,)
        The ends are nan where a resample has no value.
    """
    import warnings

    from scipy.stats import DegenerateDataWarning, bootstrap

    samples = tuple(samples)

    def along_last(*resamples: np.ndarray, axis: int = -1) -> Array:
        return np.moveaxis(np.asarray(statistic(*resamples), float), -1, 0)

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # said of nan, which is what is promised
        ends = bootstrap(
            samples,
            along_last,
            n_resamples=N_RESAMPLES,
            batch=BATCH,
            confidence_level=CONFIDENCE,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        value = np.asarray(statistic(*samples), float)
    return value, np.asarray(ends.low), np.asarray(ends.high)
