"""What the confounders of the published study do: steps, supports, replacement, betas."""

import math
from typing import TYPE_CHECKING, Any

from analysis.reductions.feature_noise import CRITICAL_CORRELATION, FAILS_TEST, NEAR, SMALL_ERROR, cells

if TYPE_CHECKING:
    import pandas as pd


def base_lr(table: "pd.DataFrame") -> float:
    """Return the learning rate of the study of steps that its larger and smaller ones are multiples of."""
    return float(table.drop_duplicates("case")["lr"].median())


def summarize_steps(table: "pd.DataFrame") -> dict[str, Any]:
    """More noise, or more steps: errors of the two batch sizes at equal steps and at equal lr * steps.

    The pairs of each number of many steps by themselves, if the table holds several.
    """
    few, base = table["n_steps"].min(), base_lr(table)
    rows, pairs = [], []
    for many in sorted(set(table["n_steps"]) - {few}):
        ratio = table["lr"] / base
        of_this_length = ((ratio - 1).abs() < 1e-9) | ((ratio / (many // few) - 1).abs() < 1e-9)
        part = table[(table["n_steps"] == many) | ((table["n_steps"] == few) & of_this_length)]
        found = cells(part)
        rows += [cell for cell in found if cell not in rows]
        pairs += [pair for pair in _pairs(found, few, base) if pair not in pairs]
    return {"cells": rows, "pairs": pairs}


CONTRASTS = (
    ("few steps", "steps", None, ("few", 0), ("few", 0)),
    ("many steps", "steps", None, ("many", 0), ("many", 0)),
    ("equal lr * steps, as many as batch 2", "lr * steps", "small", ("few", 1), ("many", 0)),
    ("equal lr * steps, as many as the large batch", "lr * steps", "large", ("few", 0), ("many", -1)),
)
"""Name; what is equal; the batch whose lr * steps both have; number of steps and sign of log lr of the large batch, of
the small one."""


def _pairs(rows, few, base):
    """Return the pairs of cells that differ in what is asked alone, with their verdicts."""
    pairs = []
    for optimizer in dict.fromkeys(cell["optimizer"] for cell in rows):
        mine = {(c["batch"], *_length(c, few, base)): c for c in rows if c["optimizer"] == optimizer}
        for name, equal, as_many_as, large, small in CONTRASTS:
            if ("large", *large) in mine and ("small", *small) in mine:
                about = {"optimizer": optimizer, "matched": name, "equal": equal, "as_many_as": as_many_as}
                pairs.append(about | _contrast(mine["large", *large], mine["small", *small]))
    return pairs


def _length(cell, few, base):
    """Say how long a case runs: "few" or "many" steps, at a learning rate as given (0), larger (1) or smaller (-1)."""
    change = cell["lr"] / base - 1
    return "few" if cell["n_steps"] == few else "many", 0 if abs(change) < 1e-9 else 1 if change > 0 else -1


def _contrast(large, small):
    gap = large["test_error"] - small["test_error"]
    noise = large["test_error"] >= FAILS_TEST and small["test_error"] <= SMALL_ERROR
    return {
        "large": large["test_error"],
        "large_std": large["test_error_std"],
        "large_steps": large["n_steps"],
        "small": small["test_error"],
        "small_std": small["test_error_std"],
        "small_steps": small["n_steps"],
        "large_train": large["train_error"],
        "small_train": small["train_error"],
        "n_seeds": min(large["n_seeds"], small["n_seeds"]),
        "verdict": "more noise" if noise else "more steps" if abs(gap) < NEAR else "open",
    }


def _compare(one, other, threshold):
    """Whether the mean test errors of two cells differ by more than `threshold` and 3 standard errors."""
    gap = other["test_error"] - one["test_error"]
    return {
        "gap": gap,
        "stderr": math.hypot(one["stderr"], other["stderr"]),
        "matters": abs(gap) > max(threshold, 3 * math.hypot(one["stderr"], other["stderr"])),
    }


def summarize_supports(table: "pd.DataFrame") -> dict[str, Any]:
    """Compare supports that overlap with supports that do not."""
    rows = cells(table)
    groups: dict[tuple[str, int, str], dict[str, Any]] = {}
    for cell in rows:
        key = cell["optimizer"], cell["batch_size"], cell["noise_norm"]
        groups.setdefault(key, {})[cell["layout"]] = cell
    pairs = [
        {
            **_about(group["disjoint"]),
            "size": noise_norm,
            "layout": layout,
            "disjoint": group["disjoint"]["test_error"],
            **_compare(group["disjoint"], group[layout], 0.1),
        }
        for (_, _, noise_norm), group in groups.items()
        for layout in group
        if layout != "disjoint"
    ]
    return {"cells": rows, "pairs": pairs}


def summarize_replacement(table: "pd.DataFrame") -> dict[str, Any]:
    """Compare batches drawn with and without replacement."""
    rows = cells(table)
    drawn_again = {(c["optimizer"], c["batch_size"]): c for c in rows if c["replacement"]}
    pairs = [
        {**_about(cell), **_compare(cell, drawn_again[cell["optimizer"], cell["batch_size"]], NEAR)}
        for cell in rows
        if not cell["replacement"]
    ]
    return {"cells": rows, "pairs": pairs}


def _about(cell):
    """Return what both cells of a pair have in common, and its label."""
    label = f"{cell['optimizer']} b{cell['batch_size']}"
    return {"case": label} | {name: cell[name] for name in ("optimizer", "batch_size", "batch")}


def summarize_betas(table: "pd.DataFrame") -> dict[str, Any]:
    """Correlate test error over pairs of betas with C_total, lam from the noise scale at the first weights.

    A network whose gradient has become 0 has no noise scale: then there is no lam, no C_total, and nothing seen.
    """
    import pandas as pd

    from adam_minibatch_noise.theory import c_total, noise_to_signal

    groups = []
    for batch_size, part in table.groupby("batch_size", sort=False):
        start = part[part["step"] == 0]["noise_scale"].median()
        along = part[part["step"] > 0]["noise_scale"].median()
        rows = cells(part)
        n = rows[0]["n_samples"]
        group = {"batch_size": int(batch_size), "n_seeds": rows[0]["n_seeds"], "rows": rows}
        for name, scale in (("start", start), ("along", along)):
            known = math.isfinite(scale)
            lam = float(noise_to_signal(n, batch_size, scale)) if known else math.nan
            values = [
                float(c_total(cell["beta1"], cell["beta2"], lam)) if known else math.nan for cell in rows
            ]
            for cell, value in zip(rows, values, strict=True):
                cell[f"c_total_{name}"] = value
            errors = [cell["test_error"] for cell in rows]
            rho = (
                float(pd.Series(values).rank().corr(pd.Series(errors).rank()))
                if known and len(set(errors)) > 1
                else math.nan
            )
            group |= {f"lam_{name}": lam, f"rho_{name}": rho, f"verdict_{name}": _sign_verdict(rho)}
        groups.append(group)
    return {"groups": groups}


def _sign_verdict(rho):
    if rho < -CRITICAL_CORRELATION:
        return "holds"
    return "contradicted" if rho > CRITICAL_CORRELATION else "not seen"
