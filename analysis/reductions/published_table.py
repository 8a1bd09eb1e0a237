"""Held against the published table: its own cells, and the choices that the paper leaves open."""

from typing import TYPE_CHECKING, Any

from analysis.reductions.feature_noise import FAILS, FINE, PUBLISHED, cells, reproduces
from sim.feature_noise.studies import PUBLISHED_DECAY

if TYPE_CHECKING:
    import pandas as pd


def summarize_table(table: "pd.DataFrame") -> dict[str, Any]:
    """Give a verdict on each cell of the published table, and on the two decays said to be too large."""
    decays = PUBLISHED_DECAY
    rows = cells(table)
    rows.sort(key=lambda c: (c["weight_decay"] != decays[c["optimizer"]], c["optimizer"], -c["batch_size"]))
    for cell in rows:
        if cell["weight_decay"] == decays[cell["optimizer"]]:
            cell["published"] = PUBLISHED[cell["optimizer"], cell["batch"]]
            kind = cell["test_error"] >= 0.48 if cell["batch"] == "large" else cell["test_error"] <= FINE
            cell["kind"] = "in kind" if kind and cell["train_error"] <= FINE else "no"
            cell["verdict"] = "reproduced" if reproduces(cell, cell["published"]) else cell["kind"]
        else:
            cell["published"] = None
            fails, fine = cell["train_error"] >= FAILS, cell["train_error"] <= FINE
            cell["verdict"] = "fails to train" if fails else "fine" if fine else "between"
    return {"cells": rows}


def summarize_choices(table: "pd.DataFrame") -> dict[str, Any]:
    """Say which unstated choices give both published large-batch errors."""
    by_choice: dict[str, dict[str, Any]] = {}
    found = cells(table)
    for cell in found:
        optimizer, correction = cell["optimizer"], cell["bias_correction"]
        choice = f"q{cell['q']} {cell['form']} {'corrected' if correction else 'plain'}"
        about = {"q": cell["q"], "form": cell["form"], "bias_correction": correction}
        row = by_choice.setdefault(choice, {"choice": choice} | about)
        row[optimizer], row[f"{optimizer}_std"] = cell["test_error"], cell["test_error_std"]
        row[f"{optimizer}_train"] = cell["train_error"]
        row[f"{optimizer}_reproduced"] = reproduces(cell, PUBLISHED[optimizer, "large"])
    rows = list(by_choice.values())
    both = [row["choice"] for row in rows if row.get("adam_reproduced") and row.get("adamw_reproduced")]
    return {"rows": rows, "both": both, "n_seeds": min(cell["n_seeds"] for cell in found)}
