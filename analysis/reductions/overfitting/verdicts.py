"""All rules applied to a table of runs: what the article, the claims and the figures say."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.reductions.overfitting.bests import gains, published, tuned_best
from analysis.reductions.overfitting.comparisons import comparisons
from analysis.reductions.overfitting.components import component_spread, components
from analysis.reductions.overfitting.cubes import Cube, cubes_of
from analysis.reductions.overfitting.maps import DEFAULT as DEFAULT_PAIR
from analysis.reductions.overfitting.maps import maps
from analysis.reductions.overfitting.mechanism import links
from analysis.reductions.overfitting.optimizers import compare
from analysis.reductions.overfitting.rankings import DEFAULT, fit_own_rule, points_of, rank, test_own_rule
from analysis.reductions.overfitting.rules import BASELINES, FIXED_LRS, HOLDS, OPEN, OPPOSITE, R7_FROM
from sim.small_networks.study import MAIN_CURVES, VARIANTS

if TYPE_CHECKING:
    import pandas as pd

FEWEST_SEEDS = 4
"""Seeds without which a variant has no halves of two."""


def judge(table: "pd.DataFrame", noise: "pd.DataFrame | None" = None) -> dict[str, list[dict[str, Any]]]:
    """Apply R1 to R11.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.overfitting_study`.
    noise : pandas.DataFrame, optional
        Rows of `sim.overfitting_noise`.

    Returns
    -------
    dict of lists of dict
        `variants`, `slopes` (R1 and R2), `bests`, `gains` (R3), `rules` and `worse` (R4), `links` (R6), `noise` (the
        noise scale at the defaults), `own` and `own_test` (R7), `components` and `component_noise` (R8),
        `cells` and `thumb` (R9), `kinds` (R10), `optimizers` and
        `optimizer_rules` (R11).
    """
    result: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "variants",
            "slopes",
            "bests",
            "gains",
            "rules",
            "worse",
            "links",
            "noise",
            "own",
            "own_test",
            "components",
            "component_noise",
            "cells",
            "thumb",
            "kinds",
            "optimizers",
            "optimizer_rules",
        )
    }
    if noise is not None:
        result["component_noise"] = component_spread(noise)
    whole = {name: cube for name, cube in cubes_of(table).items() if cube.seeds.size >= FEWEST_SEEDS}
    along: dict[str, Cube] = {}
    for name, cube in whole.items():
        result["variants"].append(
            {"variant": name, "title": VARIANTS[name].title, "task": cube.task, "n_samples": cube.n_samples,
             "n_seeds": cube.seeds.size, "n_runs": int(np.isfinite(cube.values["epoch_of_min"]).sum()),
             "n_unfinished_cells": int(cube.unfinished.sum())}
        )  # fmt: skip
        if VARIANTS[name].optimizers:
            measured, said = compare(cube)
            result["optimizers"] += measured
            result["optimizer_rules"] += said
        for curve in VARIANTS[name].curves:
            part = cube.curve(curve)
            if curve == "map" and DEFAULT_PAIR in part.pairs:
                for key, rows in zip(("cells", "thumb"), maps(part), strict=True):
                    result[key] += rows
            if curve not in MAIN_CURVES or len(part.pairs) < 3:
                continue
            judge_curve(result, cube, part, curve)
            if noise is not None:
                result["components"] += components(part, curve, noise)
            if curve == "beta2":
                along[name] = part
    result["own"], result["own_test"] = _own_rule(along)
    result["kinds"] = comparisons(whole, FEWEST_SEEDS)
    return result


def judge_curve(
    result: dict[str, list[dict[str, Any]]],
    cube: Cube,
    part: Cube,
    curve: str,
    lrs: Sequence[float] = FIXED_LRS,
    baselines: Sequence[float] = BASELINES,
) -> None:
    """Apply R1 to R4 and R6 to a curve, and add what they say to the lists of `result` (`judge`).

    Parameters
    ----------
    result : dict of lists
    cube, part : Cube
        Of all pairs of betas, and of those on the curve.
    curve : str
    lrs, baselines : sequences of float, optional
        Learning rates of R1, values of beta2 of R3.
    """
    slopes, bests = published(part, curve, lrs)
    said, tuned_bests = tuned_best(part, curve)
    result["slopes"] += [*slopes, said]
    result["bests"] += [*bests, *tuned_bests]
    if all((0.9, beta2) in cube.pairs for beta2 in baselines):
        result["gains"] += gains(cube, part, curve, baselines)
    rules, worse = rank(part, curve)
    result["rules"] += rules
    result["worse"] += worse
    result["links"] += links(part, curve)
    if curve == "beta2" and (0.9, 0.999) in part.pairs:
        point, default = points_of(part), part.pairs.index((0.9, 0.999))
        result["noise"] += [
            {"variant": cube.variant, "batch_size": int(size), "noise_scale": point.noise_scale[i, default],
             "lam": point.lam[i, default], "epoch_of_min": point.n_epochs[i, default]}
            for i, size in enumerate(part.sizes)
        ]  # fmt: skip


def _own_rule(along: dict[str, Cube]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """R7 on the variants that there are; nothing where one half or the other is missing."""
    seen = [cube for name, cube in along.items() if name in R7_FROM]
    unseen = [
        cube for name, cube in along.items() if name not in R7_FROM and VARIANTS[name].curves == MAIN_CURVES
    ]
    if not (seen and unseen) or min(cube.seeds.size for cube in (*seen, *unseen)) < 2 * FEWEST_SEEDS:
        return [], []
    own = fit_own_rule(seen)
    formula, constant = own[0]["formula"], own[0]["constant"]
    tests = [row for cube in unseen for row in test_own_rule(cube, formula, constant)]
    for variant in {row["variant"] for row in tests}:
        rows = [row for row in tests if row["variant"] == variant]
        worse = any(row["low"] > 0 for row in rows)
        better = any(row["rule"] == DEFAULT["beta2"] and row["high"] < 0 for row in rows)
        for row in rows:
            row["verdict"] = HOLDS if better and not worse else OPPOSITE if worse else OPEN
    return own, tests
