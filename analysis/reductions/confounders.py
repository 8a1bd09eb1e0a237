"""What the confounders of the published study do: steps, supports, replacement, betas."""

import math
from typing import TYPE_CHECKING, Any

from analysis.reductions.feature_noise import CRITICAL_CORRELATION, NEAR, SMALL_ERROR, cells, size

if TYPE_CHECKING:
    import pandas as pd


def summarize_steps(table: "pd.DataFrame") -> dict[str, Any]:
    """More noise, or more steps: errors of the two batch sizes at equal steps and at equal lr * steps.

    The pairs of each number of many steps by themselves, if the table holds several.
    """
    few = table["n_steps"].min()
    rows, pairs = [], []
    for many in sorted(set(table["n_steps"]) - {few}):
        other_lr = table["case"].str.contains("lr x")
        same_ratio = table["case"].str.endswith(f"lr x {many // few}")
        part = table[(table["n_steps"] == many) | ((table["n_steps"] == few) & (~other_lr | same_ratio))]
        found = cells(part)
        rows += [cell for cell in found if cell not in rows]
        pairs += [pair for pair in _pairs(found) if pair not in pairs]
    return {"cells": rows, "pairs": pairs}


def _pairs(rows):
    """Return the pairs of cells that differ in what is asked alone, with their verdicts."""
    pairs = []
    for optimizer in dict.fromkeys(cell["optimizer"] for cell in rows):
        mine = {(size(c), _length(c["case"])): c for c in rows if c["optimizer"] == optimizer}
        for name, large, small in [
            ("few steps", "few steps", "few steps"),
            ("many steps", "many steps", "many steps"),
            ("equal lr * steps, as many as batch 2", "few steps, lr x", "many steps"),
            ("equal lr * steps, as many as the large batch", "few steps", "many steps, lr /"),
        ]:
            if ("large", large) in mine and ("small", small) in mine:
                pairs.append(_contrast(optimizer, name, mine["large", large], mine["small", small]))
    return pairs


def _length(case):
    """The part of the name of a case that says how long it runs, without numbers."""
    return " ".join(word for word in case.split(" ")[2:] if not word.replace(".", "").isdigit())


def _contrast(optimizer, name, large, small):
    gap = large["test_error"] - small["test_error"]
    noise = large["test_error"] >= 0.4 and small["test_error"] <= SMALL_ERROR
    return {
        "optimizer": optimizer,
        "matched": name,
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
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in rows:
        optimizer, batch, layout = cell["case"].split(" ", 2)
        layout, _, size_of_noise = layout.partition(", ")
        groups.setdefault((f"{optimizer} {batch}", size_of_noise), {})[layout] = cell
    pairs = [
        {
            "case": name,
            "size": size_of_noise or "same l2",
            "layout": layout,
            "disjoint": group["disjoint"]["test_error"],
            **_compare(group["disjoint"], group[layout], 0.1),
        }
        for (name, size_of_noise), group in groups.items()
        for layout in group
        if layout != "disjoint"
    ]
    return {"cells": rows, "pairs": pairs}


def summarize_replacement(table: "pd.DataFrame") -> dict[str, Any]:
    """Compare batches drawn with and without replacement."""
    rows = cells(table)
    by_name = {cell["case"]: cell for cell in rows}
    pairs = []
    for name, cell in by_name.items():
        if name.endswith(" without"):
            case = name.removesuffix(" without")
            pairs.append({"case": case, **_compare(cell, by_name[f"{case} with"], NEAR)})
    return {"cells": rows, "pairs": pairs}


def summarize_betas(table: "pd.DataFrame") -> dict[str, Any]:
    """Correlate test error over pairs of betas with C_total, lam from the noise scale at the first weights."""
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
            lam = float(noise_to_signal(n, batch_size, scale))
            values = [float(c_total(cell["beta1"], cell["beta2"], lam)) for cell in rows]
            for cell, value in zip(rows, values, strict=True):
                cell[f"c_total_{name}"] = value
            errors = [cell["test_error"] for cell in rows]
            rho = (
                float(pd.Series(values).rank().corr(pd.Series(errors).rank()))
                if len(set(errors)) > 1
                else math.nan
            )
            group |= {f"lam_{name}": lam, f"rho_{name}": rho, f"verdict_{name}": _sign_verdict(rho)}
        groups.append(group)
    return {"groups": groups}


def _sign_verdict(rho):
    if rho < -CRITICAL_CORRELATION:
        return "holds"
    return "contradicted" if rho > CRITICAL_CORRELATION else "not seen"
