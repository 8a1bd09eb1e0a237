"""Where the test error turns with the batch size, and which weight decays are usable."""

import itertools
import math
from typing import TYPE_CHECKING, Any

from analysis.reductions.feature_noise import FAILS, FINE, SMALL_ERROR, cells

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


def summarize_batch(table: "pd.DataFrame") -> dict[str, Any]:
    """Find the batch size at which the test error turns, for each number of samples, and how it grows with it."""
    rows = cells(table)
    turns = []
    for n in sorted({cell["n_samples"] for cell in rows}):
        curve = sorted((c for c in rows if c["n_samples"] == n), key=lambda cell: cell["batch_size"])
        turns.append({"n_samples": n, "turn": _turn(curve)})
    found = [(turn["n_samples"], turn["turn"]) for turn in turns if turn["turn"]]
    slope, stderr = fit(*zip(*found, strict=True)) if len(found) > 1 else (math.nan, math.nan)
    verdict = "not found" if math.isnan(slope) else "holds" if abs(slope - 1) <= FAILS else "no"
    return {"cells": rows, "turns": turns, "slope": slope, "stderr": stderr, "verdict": verdict}


def _turn(curve):
    """Where the mean test error first passes 0.25, interpolated in log B; None: nowhere."""
    for one, two in itertools.pairwise(curve):
        if one["test_error"] < FAILS <= two["test_error"]:
            share = (FAILS - one["test_error"]) / (two["test_error"] - one["test_error"])
            return one["batch_size"] * (two["batch_size"] / one["batch_size"]) ** share
    return None


def fit(x: "ArrayLike", y: "ArrayLike") -> tuple[float, float]:
    """Fit a line to log y against log x by least squares; slope and its standard error (nan for two points)."""
    import numpy as np

    log_x, log_y = np.log(np.asarray(x, np.float64)), np.log(np.asarray(y, np.float64))
    dx, dy = log_x - log_x.mean(), log_y - log_y.mean()
    slope = dx @ dy / (dx @ dx)
    rest = ((dy - slope * dx) ** 2).sum()
    return float(slope), float(np.sqrt(rest / (len(dx) - 2) / (dx @ dx))) if len(dx) > 2 else math.nan


def summarize_decay(table: "pd.DataFrame") -> dict[str, Any]:
    """Find the usable decays of each optimiser, and how their upper end scales."""
    rows = cells(table)
    ranges: list[dict[str, Any]] = []
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in rows:
        groups.setdefault((cell["optimizer"], cell["batch_size"], cell["init_std"]), []).append(cell)
    for (optimizer, batch_size, init_std), part in groups.items():
        part.sort(key=lambda cell: cell["weight_decay"])
        good = [c["train_error"] <= FINE and c["test_error"] <= SMALL_ERROR for c in part]
        n_good = next((i for i, ok in enumerate(good) if not ok), len(good))  # up to the first that is not
        inside = 0 < n_good < len(part)
        upper = math.sqrt(part[n_good - 1]["weight_decay"] * part[n_good]["weight_decay"]) if inside else None
        ranges.append(
            {
                "optimizer": optimizer,
                "batch_size": batch_size,
                "init_std": init_std,
                "n_samples": part[0]["n_samples"],
                "largest_training": max(
                    (c["weight_decay"] for c in part if c["train_error"] <= FINE), default=None
                ),
                "largest_usable": part[n_good - 1]["weight_decay"] if n_good else None,
                "upper": upper,
            }
        )
    return {"cells": rows, "ranges": ranges, "exponents": list(_exponents(ranges))}


def _exponents(ranges):
    """Slopes of the upper end against sigma_0 (q - 2 = 1 for Adam) and against B (2 for AdamW)."""
    for optimizer, name, expected in (
        ("adam", "init_std", 1),
        ("adamw", "init_std", 0),
        ("adamw", "batch_size", 2),
    ):
        other = {"init_std": "batch_size", "batch_size": "init_std"}[name]
        mine = [row for row in ranges if row["optimizer"] == optimizer and row["upper"]]
        shared = sorted({row[other] for row in mine}, key=lambda v: -sum(row[other] == v for row in mine))
        points = [(row[name], row["upper"]) for row in mine if row[other] == shared[0]] if shared else []
        if len(points) > 2:
            slope, stderr = fit(*zip(*points, strict=True))
            stderr = math.hypot(stderr, _grid_error([x for x, _ in points]))
            verdict = "holds" if abs(slope - expected) <= 2 * stderr else "no"
        else:
            slope, stderr, verdict = math.nan, math.nan, "not found"
        yield {
            "optimizer": optimizer,
            "against": name,
            "expected": expected,
            "slope": slope,
            "stderr": stderr,
            "n_points": len(points),
            "verdict": verdict,
        }


def _grid_error(x):
    """Standard error that a grid of half decades, on which an end is uniform, gives to a slope against log x."""
    logs = [math.log(value) for value in x]
    mean = sum(logs) / len(logs)
    return math.log(10) / 2 / math.sqrt(12) / math.sqrt(sum((value - mean) ** 2 for value in logs))
