"""Hold the studies of stochastic Adam on the two-layer CNN against what was published, by the rules of the studies.

The rules are those of `sim.feature_noise.studies`, written down before the runs. Reads tables of
`sim.feature_noise_studies`, made here (--tables) and recorded at the published size (--records); writes one JSON file
with a part for each, a key a study.
"""

import argparse
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from analysis.reductions.confounders import (
    summarize_betas,
    summarize_replacement,
    summarize_steps,
    summarize_supports,
)
from analysis.reductions.feature_noise import FAILS, FINE, PUBLISHED, cells, reproduces, size
from analysis.reductions.usable_ranges import summarize_batch, summarize_decay
from common.cli import Parser, run
from common.files import write_json

if TYPE_CHECKING:
    import pandas as pd

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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.feature_noise_verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="of sim.feature_noise_studies"
    )
    parser.add_argument(
        "--records", nargs="*", default=[], metavar="CSV", help="the same at the published size"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser


def summarize_table(table: "pd.DataFrame") -> dict[str, Any]:
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


def summarize_choices(table: "pd.DataFrame") -> dict[str, Any]:
    """Say which unstated choices give both published large-batch errors."""
    by_choice: dict[str, dict[str, Any]] = {}
    found = cells(table)
    for cell in found:
        optimizer, choice = cell["case"].split(" ", 1)
        row = by_choice.setdefault(choice, {"choice": choice})
        row[optimizer], row[f"{optimizer}_std"] = cell["test_error"], cell["test_error_std"]
        row[f"{optimizer}_train"] = cell["train_error"]
        row[f"{optimizer}_reproduced"] = reproduces(cell, PUBLISHED[optimizer, "large"])
    rows = list(by_choice.values())
    both = [row["choice"] for row in rows if row.get("adam_reproduced") and row.get("adamw_reproduced")]
    return {"rows": rows, "both": both, "n_seeds": min(cell["n_seeds"] for cell in found)}


VERDICTS = {
    "table": summarize_table,
    "choices": summarize_choices,
    "steps": summarize_steps,
    "supports": summarize_supports,
    "replacement": summarize_replacement,
    "betas": summarize_betas,
    "batch": summarize_batch,
    "decay": summarize_decay,
}


def verdicts(table: "pd.DataFrame") -> dict[str, Any]:
    """Return what each study in a table says.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.feature_noise_studies`.

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
