"""Batch size invariance: how strongly each rule regularises, and what the article quotes of it."""

from typing import TYPE_CHECKING, Any

from sim.batch_invariance.cases import BREAK

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RULES = ("invariant", "square-root", "linear")
"""Of `sim.invariance`."""


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


def summarize(
    slopes: "pd.DataFrame",
    spread: "pd.DataFrame",
    betas: tuple[float, float],
    lam_micro: list[float],
    max_kappa: int,
) -> dict[str, Any]:
    """Collect what the article quotes: nothing but extrema, counts and values of the two tables and of C_total.

    Parameters
    ----------
    slopes, spread : pandas.DataFrame
        Rows of `sim.invariance --out` and `--spread-out`.
    betas : (beta1, beta2)
        At kappa = 1, for C_total.
    lam_micro : list of float
        Noise-to-signal ratios of a micro-batch, for C_total.
    max_kappa : int
        Largest batch in micro-batches, for C_total.
    """
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
    loudest = root[root["lam"] == root["lam"].max()]
    network = root[(root["problem"] == "cnn") & (root["lam"] == root["lam"][root["problem"] == "cnn"].max())]
    cases = [
        {
            "problem": part["problem"].iloc[0],
            "lam": part["lam"].iloc[0],
            "slope_min": part["slope"].min(),
            "slope_max": part["slope"].max(),
            "floor_min": floors["distance"].min(),
            "floor_max": floors["distance"].max(),
        }
        for (_, part), (_, floors) in zip(
            invariant.groupby("case", sort=False), root.groupby("case", sort=False), strict=True
        )
    ]
    kappa = np.array([1.0, max_kappa])
    strength = {rule: [scaled_c_total(rule, kappa, *betas, lam) for lam in lam_micro] for rule in RULES}
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
        "loudest_floor": loudest["distance"].max(),
        "loud_network_floor": {
            "lam": network["lam"].max(),
            "min": network["distance"].min(),
            "max": network["distance"].max(),
        },
        "cases": cases,
        "break_percent": 100 * BREAK,
        "n_seeds": spread["n_seeds"].min(),
        "lr0_min": spread["lr0"].min(),
        "spread": of_problem,
        "beta1": betas[0],
        "beta2": betas[1],
        "lam_micro": lam_micro,
        "c_total_kappa": max_kappa,
        "c_total": strength,
    }
