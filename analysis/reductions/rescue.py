"""What rescues the large batch on feature noise: other optimisers, micro-batches, learning rates, activations."""

import math
from typing import TYPE_CHECKING, Any

from analysis.reductions.feature_noise import FAILS_TEST, FINE, SMALL_ERROR, last_measurements
from sim.feature_noise.studies import SGD_LR, SMALL

if TYPE_CHECKING:
    import pandas as pd

ACTIVATIONS = {"q = 2": False, "q = 3": True, "q = 4": True, "SiLU": False}
"""Whether large batches should fail with it, if the failure belongs to the activation."""
METHODS = ("adamw", "invariant-adamw", "adam", "rmsprop", "signum-smooth", "sgd-momentum")
"""In the order of tables and figures."""


def outcome(runs: "pd.DataFrame") -> dict[str, Any]:
    """Return what runs of different seeds come to, with a verdict.

    Parameters
    ----------
    runs : pandas.DataFrame
        A row a seed.

    Returns
    -------
    dict
        test_error, train_error: means; stderr: of the test error, 0 for one seed; test_errors: by ascending seed;
        verdict: "rescued", "in part", "fails" or "does not train"; lr: None unless the same for all seeds.
    """
    runs = runs.sort_values("seed")
    errors, train_error = runs["test_error"], float(runs["train_error"].mean())
    error = float(errors.mean())
    kept = "rescued" if error <= SMALL_ERROR else "fails" if error >= FAILS_TEST else "in part"
    return {
        "test_error": error,
        "stderr": float(errors.std(ddof=1)) / math.sqrt(len(runs)) if len(runs) > 1 else 0.0,
        "test_errors": errors.tolist(),
        "train_error": train_error,
        "lr": float(runs["lr"].iloc[0]) if runs["lr"].nunique() == 1 else None,
        "verdict": kept if train_error <= FINE else "does not train",
    }


def tuned(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return each seed's run at the learning rate that is best for the other seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of one optimiser, the same seeds at every learning rate, with published_lr.
    """
    import numpy as np

    published = runs["published_lr"].iloc[0]
    errors = runs["test_error"].where(runs["train_error"] <= FINE, 1.0)
    table = runs.assign(error=errors).pivot(index="lr", columns="seed", values="error")
    kept = []
    for seed in table:
        scores = table.drop(columns=seed).mean(axis=1).round(12).fillna(1.0)  # a single seed has no others
        best = min((score, abs(math.log(lr / published)), lr) for lr, score in scores.items())[-1]
        kept.append((runs["seed"] == seed) & (runs["lr"] == best))
    return runs[np.any(kept, axis=0)]


def split_by_rule(last: "pd.DataFrame") -> tuple["pd.DataFrame", "pd.DataFrame", "pd.DataFrame"]:
    """Split runs into those of batch 2, those of the large batch, and those of it with settings of the invariant rule.

    Parameters
    ----------
    last : pandas.DataFrame
        A row a run of the study of optimisers.

    Returns
    -------
    small, large, by_rule : pandas.DataFrame
        Also with published_lr, and `by_rule` with rule_size, the micro-batch size whose settings were scaled.
    """
    base = last[(last["batch"] == "small") & (last["method"] == "adamw")].iloc[0]
    factor = (last["method"] == "sgd-momentum").map({True: SGD_LR, False: 1.0})
    size = (last["batch_size"] * base["lr"] / last["lr"]).round().astype(int)
    last = last.assign(published_lr=base["lr"] * factor, rule_size=size)
    small = last["batch"] == "small"
    by_rule = last["method"].isin(["adamw", "invariant-adamw"]) & (last["beta2"] != base["beta2"])
    return last[small], last[~small & ~by_rule], last[by_rule]


def at_published_lr(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return the runs at the published learning rate; for SGD, whose is not published, the one in its place."""
    return runs[(runs["lr"] / runs["published_lr"] - 1).abs() < 1e-9]


def methods(runs: "pd.DataFrame") -> "list[tuple[dict[str, Any], pd.DataFrame]]":
    """Return each optimiser, by the columns that say what it is, and its runs, at all learning rates.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of the large batch, without those of the invariant rule.
    """
    names = ["method", "beta2", "micro_batch_size"]
    groups = [(dict(zip(names, map(_plain, key), strict=True)), part) for key, part in runs.groupby(names)]
    return sorted(groups, key=lambda pair: (METHODS.index(pair[0]["method"]), -pair[0]["micro_batch_size"]))


def summarize_optimizers(table: "pd.DataFrame") -> dict[str, Any]:
    """Say which optimisers rescue the large batch, and whether its failure is due to denominators or to noise."""
    small, large, by_rule = split_by_rule(last_measurements(table))
    rows = []
    for about, runs in methods(large):
        twin = small[(small["method"] == about["method"]) & (small["beta2"] == about["beta2"])]
        chosen = tuned(runs)
        ends = {runs["lr"].min(), runs["lr"].max()}
        rows.append(
            about
            | {
                "published": outcome(at_published_lr(runs)),
                "tuned": outcome(chosen),
                "best_lr_at_an_end": bool(chosen["lr"].isin(ends).any()),
                "n_lrs": int(runs["lr"].nunique()),
                "small": outcome(twin) if len(twin) else None,
            }
        )
    rules = [_by_rule(runs) for _, runs in by_rule.groupby("rule_size")]
    return {"rows": rows, "rules": rules, "parts": _parts(at_published_lr(large), small)}


def _by_rule(runs):
    """Compare the settings of the invariant rule with micro-batches and without."""
    first = runs.iloc[0]
    invariant, adamw = (outcome(runs[runs["method"] == name]) for name in ("invariant-adamw", "adamw"))
    cause = "lr and betas" if adamw["verdict"] == "rescued" else "micro-batches"
    return {
        **{name: _plain(first[name]) for name in ("rule_size", "lr", "beta1", "beta2")},
        "invariant": invariant,
        "adamw": adamw,
        "due_to": cause if invariant["verdict"] == "rescued" else "nothing",
    }


def _parts(large, small):
    """Part the failure of AdamW into what denominators of batch 2 remove and what they leave to the numerators."""
    micro = (large["method"] == "invariant-adamw") & (large["micro_batch_size"] == SMALL)
    adamw, other, twin = (
        runs.set_index("seed")["test_error"]
        for runs in (large[large["method"] == "adamw"], large[micro], small[small["method"] == "adamw"])
    )
    removed, left = adamw - other, other - twin
    difference = removed - left
    stderr = float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    mean = float(difference.mean())
    decided = "denominators" if mean > 0 else "noise"
    return {
        "removed": float(removed.mean()),
        "left": float(left.mean()),
        "difference": mean,
        "stderr": stderr,
        "n_seeds": len(difference),
        "verdict": decided if abs(mean) > 3 * stderr and mean != 0 else "open",
    }


def summarize_activations(table: "pd.DataFrame") -> dict[str, Any]:
    """Say with which activations the large batch fails, and whether the failure is due to the activation."""
    last = last_measurements(table)
    small, large = (last[last["batch"] == size] for size in ("small", "large"))
    large = large.assign(published_lr=small["lr"].iloc[0])
    rows = []
    for name in ACTIVATIONS:
        runs = large[large["shape"] == name]
        adamw = runs[runs["method"] == "adamw"]
        rows.append(
            {
                "activation": name,
                "published": outcome(at_published_lr(adamw)),
                "tuned": outcome(tuned(adamw)),
                "n_lrs": int(adamw["lr"].nunique()),
                "small": outcome(small[small["shape"] == name]),
                "invariant": outcome(runs[runs["method"] == "invariant-adamw"]),
            }
        )
    by_name = {row["activation"]: row for row in rows}
    verdicts = {
        lr: _due_to_activation({name: by_name[name][lr] for name in ACTIVATIONS})
        for lr in ("published", "tuned")
    }
    return {"rows": rows, "verdicts": verdicts}


def _due_to_activation(found):
    """Whether the failure belongs to the activation: "yes", "in part" or "no"."""
    worse, better = (
        [cell for name, cell in found.items() if ACTIVATIONS[name] is said] for said in (True, False)
    )
    fail = all(cell["verdict"] == "fails" for cell in worse)
    if fail and all(cell["verdict"] == "rescued" for cell in better):
        return "yes"
    low = min(worse, key=lambda cell: cell["test_error"])
    high = max(better, key=lambda cell: cell["test_error"])
    gap, stderr = low["test_error"] - high["test_error"], math.hypot(low["stderr"], high["stderr"])
    return "in part" if gap > max(0.1, 3 * stderr) else "no"


def _plain(value):
    return value.item() if hasattr(value, "item") else value
