"""R6: does higher C_total go with lower sharpness, and lower sharpness with lower validation loss?"""

from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.cubes import Cube, interval, tuned
from analysis.reductions.overfitting.rankings import (
    agreement,
    c_total_exact,
    mean_over_sizes,
    points_of,
    rank_correlation,
)
from analysis.reductions.overfitting.rules import verdict

LINKS = (
    "C_total and low sharpness",
    "C_total and low |g|_1",
    "low sharpness and low loss",
    "low |g|_1 and low loss",
    "C_total and low loss",
)


def links(cube: Cube, curve: str) -> list[dict[str, Any]]:
    """Return the rank correlations of the chain from theory to loss, means over batch sizes, with verdicts."""
    c_total = c_total_exact(cube, points_of(cube))
    value, low, high = interval(lambda *halves: chain(cube, c_total, *halves), cube.halves)
    return [
        {"variant": cube.variant, "curve": curve, "link": link, "rank_correlation": value[i], "low": low[i],
         "high": high[i], "verdict": verdict(low[i], high[i])}
        for i, link in enumerate(LINKS)
    ]  # fmt: skip


def chain(cube: Cube, c_total: Array, one: np.ndarray, other: np.ndarray) -> Array:
    """Return the rank correlations of `LINKS` along a curve, (..., 5), for places of the seeds of both halves."""
    loss, sharpness, norm = (
        tuned(cube, one, other, m) for m in ("min_valid_loss", "sharpness", "gradient_l1")
    )
    return np.stack(
        [
            mean_over_sizes(rank_correlation(c_total, sharpness)),
            mean_over_sizes(rank_correlation(c_total, norm)),
            mean_over_sizes(agreement(sharpness, loss)),
            mean_over_sizes(agreement(norm, loss)),
            mean_over_sizes(rank_correlation(c_total, loss)),
        ],
        axis=-1,
    )
