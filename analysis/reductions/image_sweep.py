"""What the studies on images show: test errors at the learning rate that validation chose, spreads over batch sizes.

Rules of the verdicts, fixed before the runs of the default configuration, after a trial of the program with one seed:
two sets of seeds differ if their ranges do not overlap; a weight decay trains if every seed ends with a training error
below 0.1; invariance is broken from the learning rate on at which the training losses of the batch sizes are a tenth
apart.
"""

from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

GROUP = ["dataset", "model", "norm"]
COLUMNS = [
    *GROUP,
    *(
        "optimizer",
        "scaling",
        "batch_size",
        "lr",
        "weight_decay",
        "n_steps",
        "seed",
        "epoch",
        "step",
        "n_images",
    ),
    *("train_loss", "train_error", "valid_loss", "valid_error", "test_error", "status"),
]
SETTING = ["optimizer", "weight_decay", "batch_size"]
STUDIES = {
    "batch": "test error against batch size, epochs matched",
    "steps": "the same, steps matched",
    "decay": "test error against weight decay",
    "invariance": "spread over batch sizes against learning rate",
}
TRAINS = 0.1
"""Training error below which a weight decay lets the network train."""
BREAKS = 0.1
"""Spread of the logarithm of the training loss from which on trajectories depend on the batch size."""


def choose_by_validation(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Choose the learning rate of each setting by validation, and read its test error at the last evaluation.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `train.image_sweep`.

    Returns
    -------
    list of dict
        GROUP, optimizer, batch_size, weight_decay, lr (of the least mean validation error over seeds; ties by
        validation loss), n_lr (tried), n_steps, n_seeds, n_diverged, mean, low, high (test error over the seeds: a
        diverged one counts as 1), train_error (the largest over the seeds).
    """
    import numpy as np

    last = table.sort_values("step").groupby([*GROUP, *SETTING, "lr", "seed"], sort=True).tail(1)
    diverged = last["status"] == "diverged"
    errors = [name for name in last if name.endswith("_error")]
    last = last.assign(**{name: last[name].where(~diverged, 1.0) for name in errors})
    last = last.assign(valid_loss=last["valid_loss"].where(~diverged, np.inf), diverged=diverged)
    rows = []
    for key, part in last.groupby([*GROUP, *SETTING], sort=True):
        means = part.groupby("lr")[["valid_error", "valid_loss"]].mean()
        lr = means.sort_values(["valid_error", "valid_loss"], kind="stable").index[0]
        best = part[part["lr"] == lr]
        test = best["test_error"]
        rows.append(
            dict(zip([*GROUP, *SETTING], key, strict=True))
            | {"lr": lr, "n_lr": len(means), "n_steps": int(best["step"].max())}
            | {"n_seeds": len(best), "n_diverged": int(best["diverged"].sum())}
            | {"mean": test.mean(), "low": test.min(), "high": test.max()}
            | {"train_error": best["train_error"].max()}
        )
    return rows


def spreads(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Measure how far the trajectories of different batch sizes lie apart, for each learning rate.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `train.image_sweep` with a scaling rule; batch sizes share their evaluations (images seen).

    Returns
    -------
    list of dict
        GROUP, scaling, lr (of the reference), n_seeds, n_diverged; `loss` and `error`: largest less smallest over the
        batch sizes, of the natural logarithm of the training loss and of the test error, each averaged over the
        trajectory and then over the seeds; `loss_low`, `loss_high`, `error_low`, `error_high`: range over the seeds;
        nan where a run diverged.

    Raises
    ------
    InputError
        Batch sizes that were not evaluated after as many images.
    """
    import numpy as np

    rows = []
    for key, part in table.groupby([*GROUP, "scaling", "lr"], sort=True):
        part = part.assign(log_loss=np.log(part["train_loss"]))
        n_diverged = int((part["status"] == "diverged").sum())
        values: dict[str, list[Any]] = {"loss": [], "error": []}
        for _, seed in part.groupby("seed", sort=True):
            for name, column in (("loss", "log_loss"), ("error", "test_error")):
                course = seed.pivot(index="epoch", columns="batch_size", values=column)
                if n_diverged:
                    values[name].append(np.nan)
                    continue
                if course.isna().any(axis=None):
                    raise InputError(
                        "batch sizes differ in the epochs of their rows, allowed: the same epochs"
                    )
                values[name].append(float((course.max(axis=1) - course.min(axis=1)).mean()))
        row = dict(zip([*GROUP, "scaling", "lr"], key, strict=True))
        row |= {"n_seeds": part["seed"].nunique(), "n_diverged": n_diverged}
        for name, each in values.items():
            row |= {name: np.mean(each), f"{name}_low": np.min(each), f"{name}_high": np.max(each)}
        rows.append(row)
    return rows


def verdicts(drawn: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Apply the rules of the module to what is drawn of one group.

    Parameters
    ----------
    drawn : dict
        "batch", "steps", "decay": rows of `choose_by_validation`; "invariance": rows of `spreads`.

    Returns
    -------
    dict
        batch, steps: for each optimiser the rows of the smallest and the largest batch size, and whether the test error
        of the largest is "higher", "lower" or "not separated" (see `compare`). decay: for each optimiser the largest
        weight decay that trains and the smallest that does not, the rows of the largest tried and of the least mean
        test error; and the weight decays at which Adam's test error is higher than AdamW's. invariance: for each rule
        the spread at the smallest and largest learning rate, and the learning rate from which on it is broken.
    """
    out: dict[str, Any] = {}
    for study in ("batch", "steps"):
        out[study] = {}
        for optimizer, rows in group_rows(drawn[study], "optimizer").items():
            rows = sorted(rows, key=lambda row: row["batch_size"])
            small, large = rows[0], rows[-1]
            out[study][optimizer] = {"smallest": small, "largest": large, "verdict": compare(small, large)}
    out["decay"] = {}
    for optimizer, rows in group_rows(drawn["decay"], "optimizer").items():
        rows = sorted(rows, key=lambda row: row["weight_decay"])
        trains = [row["weight_decay"] for row in rows if row["train_error"] < TRAINS]
        fails = [row["weight_decay"] for row in rows if row["train_error"] >= TRAINS]
        limits = {
            "largest_that_trains": max(trains, default=None),
            "smallest_that_fails": min(fails, default=None),
        }
        out["decay"][optimizer] = limits | {
            "largest": rows[-1],
            "best": min(rows, key=lambda row: row["mean"]),
        }
    if {"adam", "adamw"} <= set(out["decay"]):
        adam, adamw = (
            {row["weight_decay"]: row for row in drawn["decay"] if row["optimizer"] == name}
            for name in ("adam", "adamw")
        )
        higher = [
            value
            for value in sorted(set(adam) & set(adamw))
            if compare(adamw[value], adam[value]) == "higher"
        ]
        out["decay"]["adam_is_higher_at"] = higher
    out["invariance"] = {}
    for rule, rows in group_rows(drawn["invariance"], "scaling").items():
        rows = sorted(rows, key=lambda row: row["lr"])
        holds = [row["loss"] < BREAKS for row in rows]  # nan, where a run diverged, does not
        n_holds = ([*holds, False]).index(False)
        broken_from = rows[n_holds]["lr"] if n_holds < len(rows) else None
        out["invariance"][rule] = {"first": rows[0], "last": rows[-1], "broken_from": broken_from}
    return out


def compare(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Say whether the second's test error is "higher", "lower" or "not separated" by the ranges over the seeds."""
    if second["low"] > first["high"]:
        return "higher"
    return "lower" if second["high"] < first["low"] else "not separated"


def group_rows(rows: list[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    """Sort rows into lists by the value they have under a name."""
    return {
        value: [row for row in rows if row[name] == value]
        for value in dict.fromkeys(row[name] for row in rows)
    }


def reduce(paths: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Read the tables and reduce them, a group a data set, network and normalisation.

    Parameters
    ----------
    paths : dict
        For each of STUDIES the tables of `train.image_sweep`; of a row that occurs twice (made again, and recorded) the
        first is kept.

    Returns
    -------
    list of dict
        GROUP, title, `drawn` (see `verdicts`) and `verdicts`.

    Raises
    ------
    InputError
        No table at all, a table that lacks a column, an unknown data set.
    """
    import pandas as pd

    from analysis.inputs import tables, titles

    reduced = {}
    for study in STUDIES:
        table = tables.read(paths[study], COLUMNS) if paths[study] else pd.DataFrame(columns=COLUMNS)
        titles.known(table["dataset"], titles.DATASETS, "dataset")
        table = table.drop_duplicates([*GROUP, *SETTING, "scaling", "lr", "seed", "step"])
        reduced[study] = (
            [] if table.empty else (spreads if study == "invariance" else choose_by_validation)(table)
        )
    keys = dict.fromkeys(tuple(row[name] for name in GROUP) for rows in reduced.values() for row in rows)
    groups = []
    for key in keys:
        drawn = {
            study: [row for row in rows if tuple(row[name] for name in GROUP) == key]
            for study, rows in reduced.items()
        }
        dataset, model, norm = key
        parts = titles.DATASETS[dataset], titles.NETWORKS[model], titles.NORMS[norm]
        names = dict(zip(GROUP, key, strict=True)) | {"title": ", ".join(parts)}
        names |= dict(zip(("dataset_title", "network_title", "norm_title"), parts, strict=True))
        groups.append(names | {"drawn": drawn, "verdicts": verdicts(drawn)})
    if not groups:
        raise InputError(f"no table was given, allowed: at least one of --{', --'.join(STUDIES)}")
    return groups
