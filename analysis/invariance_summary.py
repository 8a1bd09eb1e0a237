"""Numbers on batch size invariance: how strongly each rule regularises, and what the article quotes."""

import argparse
from typing import TYPE_CHECKING, Any

from sim.invariance import BREAK

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RULES = {
    "invariant": "batch-size invariant Adam",
    "square-root": "Adam, square-root rule",
    "linear": "Adam, linear rule",
}
"""Rules of `sim.invariance` and their names in a legend."""


def scaled_c_total(
    rule: str, kappa: "np.ndarray", beta1: float, beta2: float, lam_micro: float
) -> "np.ndarray":
    """Return lr C_total / lr0 for batches of `kappa` micro-batches of many samples, lam_batch = lam_micro / kappa.

    Parameters
    ----------
    rule : str
        Of `RULES`.
    kappa : (n,) ndarray
    beta1, beta2 : float
        At kappa = 1.
    lam_micro : float
        Noise-to-signal ratio of a micro-batch gradient.

    Returns
    -------
    (n,) ndarray
    """
    from adam_minibatch_noise.theory import c_total, invariant_c_total, scaling_rule

    lr, b, r = scaling_rule("square-root" if rule == "square-root" else "invariant", kappa, 1.0, beta1, beta2)
    if rule == "invariant":
        return lr * invariant_c_total(b, r, lam_micro / kappa, lam_micro)
    return lr * c_total(b, r, lam_micro / kappa)


def summarize(slopes: "pd.DataFrame", spread: "pd.DataFrame", args: argparse.Namespace) -> dict[str, Any]:
    """Collect what the article quotes: nothing but extrema, counts and values of the two tables and of C_total."""
    import numpy as np

    ends = slopes.loc[slopes.groupby(["case", "rule", "kappa"], sort=False)["lr"].idxmin()]
    invariant, root = (ends[ends["rule"] == rule] for rule in ("invariant", "square-root"))
    judged = root[root["lam"] < 1]
    points = spread.drop_duplicates(["problem", "rule", "lr0"])
    of_problem = {
        problem: {
            rule: {
                "breaks_at": rows.loc[rows["relative"] > BREAK, "lr0"].min(),
                "smallest": rows["relative"].min(),
                "at_smallest_lr": rows.loc[rows["lr0"].idxmin(), "relative"],
                "largest": rows["relative"].max(),
                "accuracy_at_smallest_lr": rows.loc[rows["lr0"].idxmin(), "spread_accuracy"],
                "accuracy_largest": rows["spread_accuracy"].max(),
            }
            for rule, rows in part.groupby("rule")
        }
        for problem, part in points.groupby("problem")
    }
    kappa = np.array([1.0, args.max_kappa])
    strength = {
        rule: [scaled_c_total(rule, kappa, args.beta1, args.beta2, lam) for lam in args.lam_micro]
        for rule in RULES
    }
    return {
        "n_decades": np.log10(slopes["lr"].max() / slopes["lr"].min()),
        "n_curves": len(invariant),
        "n_accepted": (invariant["verdict"] == "accepted").sum(),
        "slope_min": invariant["slope"].min(),
        "slope_max": invariant["slope"].max(),
        "lam_min": ends["lam"].min(),
        "lam_max": ends["lam"].max(),
        "max_kappa": slopes["kappa"].max(),
        "invariant_end": invariant["distance"].max(),
        "n_floors": len(judged),
        "n_floors_accepted": (judged["verdict"] == "accepted").sum(),
        "floor_min": judged["distance"].min(),
        "floor_max": judged["distance"].max(),
        "floor_error_percent": 100 * (judged["distance"] / judged["limit"] - 1).abs().max(),
        "all_error_percent": 100 * (root["distance"] / root["limit"] - 1).abs().max(),
        "quietest_floor": judged.loc[judged["lam"] == judged["lam"].min(), "distance"].max(),
        "loudest_floor": root.loc[root["lam"] == root["lam"].max(), "distance"].max(),
        "break_percent": 100 * BREAK,
        "n_seeds": spread["n_seeds"].min(),
        "lr0_min": spread["lr0"].min(),
        "spread": of_problem,
        "beta1": args.beta1,
        "beta2": args.beta2,
        "lam_micro": args.lam_micro,
        "c_total_kappa": args.max_kappa,
        "c_total": strength,
    }
