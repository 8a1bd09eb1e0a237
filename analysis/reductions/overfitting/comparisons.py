"""R10: what another kind of noise changes, paired by seed."""

from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.bests import CLAIMED, best, gain_of_best, log_memory, slope, swept
from analysis.reductions.overfitting.cubes import Cube, interval, tuned
from analysis.reductions.overfitting.mechanism import LINKS, chain
from analysis.reductions.overfitting.rankings import c_total_exact, points_of
from analysis.reductions.overfitting.rules import KINDS, OPEN, verdict

CURVE, DEFAULT = "beta2", (0.9, 0.999)
QUANTITIES = (
    "slope",
    "gain, smallest batch",
    "test gain, smallest batch",
    "gain, mean",
    "test gain, mean",
    *LINKS,
)
"""Slope of the best memory over the batch size, gains of the best beta2 over .999 in percent, links of the chain."""


FEWEST_FOR_VERDICT = 8
"""Seeds below which the bootstrap's intervals are too narrow to decide anything."""


def comparisons(cubes: dict[str, Cube], fewest_seeds: int) -> list[dict[str, Any]]:
    """Return a row a kind of noise and quantity; verdicts are open for fewer than `FEWEST_FOR_VERDICT` seeds.

    Parameters
    ----------
    cubes : dict of Cube
        By variant.
    fewest_seeds : int
        Seeds that both must have.
    """
    rows: list[dict[str, Any]] = []
    for kind, reference, variant in KINDS:
        if reference in cubes and variant in cubes:
            pair = [cubes[name].curve(CURVE) for name in (reference, variant)]
            seeds = np.intersect1d(pair[0].seeds, pair[1].seeds)
            if seeds.size >= fewest_seeds and all(DEFAULT in cube.pairs for cube in pair):
                rows += _compare(kind, *(cube.of_seeds(seeds) for cube in pair))
    return rows


def _compare(kind: str, reference: Cube, variant: Cube) -> list[dict[str, Any]]:
    theories = [c_total_exact(cube, points_of(cube)) for cube in (reference, variant)]

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        first, second = (
            _quantities(cube, c_total, one, other)
            for cube, c_total in zip((reference, variant), theories, strict=True)
        )
        return np.concatenate([first, second, second - first], axis=-1)

    value, low, high = (ends.reshape(3, -1) for ends in interval(statistic, reference.halves))
    rows = []
    for i, quantity in enumerate(QUANTITIES):
        claimed = CLAIMED[CURVE] if quantity == "slope" else 1
        few = reference.seeds.size < FEWEST_FOR_VERDICT
        said = [OPEN if few else verdict(low[k, i], high[k, i], claimed) for k in range(3)]
        row: dict[str, Any] = {
            "kind": kind, "reference": reference.variant, "variant": variant.variant, "quantity": quantity,
            "n_seeds": reference.seeds.size,
        }  # fmt: skip
        for k, name in enumerate(("reference", "variant", "difference")):
            row |= {f"{name}_value": value[k, i], f"{name}_low": low[k, i], f"{name}_high": high[k, i]}
        row |= {"reference_verdict": said[0], "variant_verdict": said[1], "difference_verdict": said[2]}
        row["same"] = None if few else said[0] == said[1]
        rows.append(row)
    return rows


def _quantities(cube: Cube, c_total: Array, one: np.ndarray, other: np.ndarray) -> Array:
    """Return `QUANTITIES`, (..., 10)."""
    bests = best(tuned(cube, one, other), log_memory(swept(cube, CURVE)))
    gains = gain_of_best(cube, np.arange(len(cube.pairs)), [cube.pairs.index(DEFAULT)], one, other)
    valid, test = gains[..., : cube.sizes.size], gains[..., cube.sizes.size :]
    return np.concatenate(
        [
            np.stack(
                [
                    slope(cube.sizes, bests),
                    valid[..., 0],
                    test[..., 0],
                    valid.mean(axis=-1),
                    test.mean(axis=-1),
                ],
                axis=-1,
            ),
            chain(cube, c_total, one, other),
        ],
        axis=-1,
    )
