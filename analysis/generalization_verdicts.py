"""Hold the studies of stochastic Adam on the two-layer CNN against what was published, by the rules of the studies.

The rules are those of `sim.feature_noise.studies`, written down before the runs. Reads tables of
`sim.generalization_studies`, made here (--tables) and recorded at the published size (--records); writes one JSON file
with a part for each, a key a study.
"""

import argparse
import itertools
import math
from typing import TYPE_CHECKING, Any

from sim.records import InputError, Parser, run, write_json

if TYPE_CHECKING:
    import pandas as pd

    from sim.theory import Array

COLUMNS = (
    "study",
    "case",
    "seed",
    "step",
    "optimizer",
    "batch_size",
    "train_error",
    "test_error",
    "noise_scale",
)
PUBLISHED = {
    ("adam", "large"): 0.9545,
    ("adamw", "large"): 0.5485,
    ("adam", "small"): 0.0,
    ("adamw", "small"): 0.0,
}
"""Test errors of the published table; the training errors are all 0."""
NEAR, FINE, FAILS, SMALL_ERROR = 0.05, 0.01, 0.25, 0.05
CRITICAL_CORRELATION = 0.648
"""Of Spearman's correlation at 5%, two-sided, 10 pairs."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.generalization_verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="of sim.generalization_studies"
    )
    parser.add_argument(
        "--records", nargs="*", default=[], metavar="CSV", help="the same at the published size"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser


def ends(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the last measurement of each run."""
    return table.loc[table.groupby(["case", "seed"], sort=False)["step"].idxmax()]


def cells(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return means and standard deviations over seeds of the last measurement of each case, in order."""
    rows = []
    for case, part in ends(table).groupby("case", sort=False):
        first, n = part.iloc[0], len(part)
        std = float(part["test_error"].std(ddof=1)) if n > 1 else 0.0
        rows.append(
            {
                "case": case,
                **{
                    name: first[name].item()
                    for name in ("batch_size", "n_samples", "weight_decay", "lr", "init_std")
                },
                **{
                    name: first[name].item()
                    for name in ("q", "eps", "eps_root", "bias_correction", "n_steps")
                },
                **{name: first[name].item() for name in ("beta1", "beta2")},
                "optimizer": first["optimizer"],
                "n_seeds": n,
                "train_error": float(part["train_error"].mean()),
                "test_error": float(part["test_error"].mean()),
                "test_error_std": std,
                "test_errors": sorted(part["test_error"].tolist()),
                "stderr": std / math.sqrt(n),
                "signal": float(part[["signal_plus", "signal_minus"]].min(axis=1).mean()),
                "noise": float(part["noise"].mean()),
            }
        )
    return rows


def size(cell: dict[str, Any]) -> str:
    """Return "small" for batch 2, else "large"."""
    return "small" if cell["batch_size"] == 2 else "large"


def reproduces(cell: dict[str, Any], published: float) -> bool:
    """Whether a cell meets the rule for a published test error, with training error 0."""
    near = abs(cell["test_error"] - published) <= max(NEAR, 3 * cell["test_error_std"])
    return near and cell["train_error"] == 0


def of_table(table: "pd.DataFrame") -> dict[str, Any]:
    """Give a verdict on each cell of the published table, and on the two decays said to be too large."""
    decays = {"adam": 1e-5, "adamw": 1e-2}
    rows = cells(table)
    rows.sort(key=lambda c: (c["weight_decay"] != decays[c["optimizer"]], c["optimizer"], -c["batch_size"]))
    for cell in rows:
        if cell["weight_decay"] == decays[cell["optimizer"]]:
            cell["published"] = PUBLISHED[cell["optimizer"], size(cell)]
            kind = cell["test_error"] >= 0.48 if size(cell) == "large" else cell["test_error"] <= FINE
            cell["kind"] = "in kind" if kind and cell["train_error"] <= FINE else "no"
            cell["verdict"] = "reproduced" if reproduces(cell, cell["published"]) else cell["kind"]
        else:
            cell["published"] = None
            fails, fine = cell["train_error"] >= FAILS, cell["train_error"] <= FINE
            cell["verdict"] = "fails to train" if fails else "fine" if fine else "between"
    return {"cells": rows}


def of_choices(table: "pd.DataFrame") -> dict[str, Any]:
    """Say which unstated choices give both published large-batch errors."""
    by_choice: dict[str, dict[str, Any]] = {}
    for cell in cells(table):
        optimizer, choice = cell["case"].split(" ", 1)
        row = by_choice.setdefault(choice, {"choice": choice})
        row[optimizer] = cell["test_error"]
        row[f"{optimizer}_train"] = cell["train_error"]
        row[f"{optimizer}_reproduced"] = reproduces(cell, PUBLISHED[optimizer, "large"])
    rows = list(by_choice.values())
    both = [row["choice"] for row in rows if row.get("adam_reproduced") and row.get("adamw_reproduced")]
    return {"rows": rows, "both": both}


def of_steps(table: "pd.DataFrame") -> dict[str, Any]:
    """More noise, or more steps: errors of the two batch sizes at equal steps and at equal lr * steps."""
    rows = cells(table)
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
    return {"cells": rows, "pairs": pairs}


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


def of_supports(table: "pd.DataFrame") -> dict[str, Any]:
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


def of_replacement(table: "pd.DataFrame") -> dict[str, Any]:
    """Compare batches drawn with and without replacement."""
    rows = cells(table)
    by_name = {cell["case"]: cell for cell in rows}
    pairs = []
    for name, cell in by_name.items():
        if name.endswith(" without"):
            case = name.removesuffix(" without")
            pairs.append({"case": case, **_compare(cell, by_name[f"{case} with"], NEAR)})
    return {"cells": rows, "pairs": pairs}


def of_betas(table: "pd.DataFrame") -> dict[str, Any]:
    """Correlate test error over pairs of betas with C_total, lam from the noise scale at the first weights."""
    import pandas as pd

    from sim.theory import c_total, noise_to_signal

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


def of_batch(table: "pd.DataFrame") -> dict[str, Any]:
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


def fit(x: "Array", y: "Array") -> tuple[float, float]:
    """Fit a line to log y against log x by least squares; slope and its standard error (nan for two points)."""
    import numpy as np

    x, y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    x, y = x - x.mean(), y - y.mean()
    slope = x @ y / (x @ x)
    rest = ((y - slope * x) ** 2).sum()
    return float(slope), float(np.sqrt(rest / (len(x) - 2) / (x @ x))) if len(x) > 2 else math.nan


def of_decay(table: "pd.DataFrame") -> dict[str, Any]:
    """Find the usable decays of each optimiser, and how their upper end scales."""
    rows = cells(table)
    ranges, groups = [], {}
    for cell in rows:
        groups.setdefault((cell["optimizer"], cell["batch_size"], cell["init_std"]), []).append(cell)
    for (optimizer, batch_size, init_std), part in groups.items():
        part.sort(key=lambda cell: cell["weight_decay"])
        good = [c["train_error"] <= FINE and c["test_error"] <= SMALL_ERROR for c in part]
        n_good = next((i for i, ok in enumerate(good) if not ok), len(good))  # up to the first that is not
        last = n_good - 1 if n_good else None
        inside = last is not None and last + 1 < len(part)
        upper = math.sqrt(part[last]["weight_decay"] * part[last + 1]["weight_decay"]) if inside else None
        ranges.append(
            {
                "optimizer": optimizer,
                "batch_size": batch_size,
                "init_std": init_std,
                "n_samples": part[0]["n_samples"],
                "largest_training": max(
                    (c["weight_decay"] for c in part if c["train_error"] <= FINE), default=None
                ),
                "largest_usable": None if last is None else part[last]["weight_decay"],
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


VERDICTS = {
    "table": of_table,
    "choices": of_choices,
    "steps": of_steps,
    "supports": of_supports,
    "replacement": of_replacement,
    "betas": of_betas,
    "batch": of_batch,
    "decay": of_decay,
}


def verdicts(table: "pd.DataFrame") -> dict[str, Any]:
    """Return what each study in a table says.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.generalization_studies`.

    Returns
    -------
    dict
        Keys: names of studies.
    """
    if unknown := sorted(set(map(str, table["study"])) - set(VERDICTS)):
        raise InputError(f"column 'study' holds {unknown[0]!r}, allowed: {', '.join(VERDICTS)}")
    return {study: VERDICTS[study](part) for study, part in table.groupby("study", sort=False)}


def main(argv: list[str] | None = None) -> None:
    """Read, judge, write."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written(args.tables):
        result = {"here": verdicts(tables.read(args.tables, COLUMNS))}
    with tables.as_written(args.records):
        result["published_size"] = verdicts(tables.read(args.records, COLUMNS)) if args.records else {}
    write_json(args.out, result)


if __name__ == "__main__":
    run(main)
