"""Collect every number that the article's text quotes, from the files the studies wrote."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.files import write_json

if TYPE_CHECKING:
    import pandas as pd


FEW = ("n_batches", "beta2", "measured", "stderr", "predicted", "exact")
EXPECTATION = (*FEW, "n_permutations", "excess")
MAP = ("swept_beta", "beta2", "batch_size", "n_batches", "n_epochs", "c_total_limit", "c_total_exact")
TURNING = ("swept_beta", "n_epochs", "turned_at_limit", "turned_at_exact")
"""Columns that the numbers are taken from."""
KNOWN = {"study": ("terms", "lines", "moments"), "verdict": ("proved", "refuted")}
"""Words by which rows are counted."""


def check_words(table: "pd.DataFrame", column: str) -> None:
    """Refuse a table with another word than those of `KNOWN`, whose rows would be counted as none of them.

    Raises
    ------
    InputError
    """
    if unknown := sorted(set(map(str, table[column])) - set(KNOWN[column])):
        raise InputError(f"column {column!r} holds {unknown[0]!r}, allowed: {', '.join(KNOWN[column])}")


def summarize_expectation(table: "pd.DataFrame") -> dict[str, Any]:
    """Sum up measured against predicted (rows of `analysis.plot_expectation --summary`)."""
    longest = table.loc[table["beta2"].idxmax()]
    few = table[(table["n_batches"] == table["n_batches"].min()) & (table["beta2"] == longest["beta2"])].iloc[
        0
    ]
    return {
        "n_settings": len(table),
        "n_permutations": int(table["n_permutations"].max()),
        "largest_excess": table["excess"].max(),
        "n_violated": int((table["excess"] > 1).sum()),
        "few_batches": {name: few[name] for name in FEW},
    }


def summarize_closeness(table: "pd.DataFrame") -> dict[str, Any]:
    """Find the ranges of the fitted slopes (rows of `sim.closeness`)."""
    import numpy as np

    slopes = table.groupby("correction")["slope"].agg(["min", "max"])
    return {
        "n_decades": float(np.log10(table["lr"].max() / table["lr"].min())),
        "n_cases": len(table.groupby(["problem", "algorithm"])),
        "with": slopes.loc["with"].to_dict(),
        "without": slopes.loc["without"].to_dict(),
    }


def summarize_terms(paths: list[str]) -> dict[str, Any]:
    """Count the comparisons term by term and the worst of them (the tables of `sim.terms`)."""
    from analysis import tables

    table = tables.read(paths, ["study", "term", "excess"], finite=["excess"])
    check_words(table, "study")
    by_study = table.groupby("study")["excess"]
    return {
        "n_cases": len(paths),
        "n_rows": by_study.size().to_dict(),
        "largest_excess": by_study.max().to_dict(),
        "n_violated": int((table["excess"] > 1).sum()),
    }


def summarize_turning(table: "pd.DataFrame", points: "pd.DataFrame") -> dict[str, Any]:
    """Compare limit and exact C_total at the longest memory, and where beta2 turns (`sim.turning`)."""
    points = points[points["swept_beta"] == "beta2"]
    shift = 100 * (points["turned_at_exact"] / points["turned_at_limit"] - 1).abs()
    swept = table[table["swept_beta"] == "beta2"]
    cells = swept[
        (swept["beta2"] == swept["beta2"].max()) & (swept["batch_size"] == swept["batch_size"].min())
    ]
    ratio = cells["c_total_limit"] / cells["c_total_exact"]
    first, last = int(table["n_epochs"].min()), int(table["n_epochs"].max())
    return {
        "first_epoch": first,
        "last_epoch": last,
        "batch_size": int(cells["batch_size"].iloc[0]),
        "n_batches": int(cells["n_batches"].iloc[0]),
        "beta2": cells["beta2"].iloc[0],
        "ratio_first": ratio[cells["n_epochs"] == first].median(),
        "ratio_last": ratio[cells["n_epochs"] == last].median(),
        "shift_first_percent": shift[points["n_epochs"] == first].max(),
        "shift_last_percent": shift[points["n_epochs"] == last].max(),
    }


def summarize_runs(paths: list[str]) -> dict[str, Any]:
    """Sum up how the runs were made (the JSON files of `train.sweep`)."""
    records = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                records.append(json.load(file))
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error})") from error
    first = records[0]
    return {
        "n_runs": sum(record["n_runs"] for record in records),
        "n_params": first["n_params"],
        "n_windows": first["n_windows"],
        "n_types": first["corpus"]["n_types"],
        "minutes": sum(record["seconds"] for record in records) / 60,
        "device": first["made_with"]["device"],
        "torch": first["made_with"]["torch"],
        "settings": {**first["settings"], "beta1": first["runs"][0]["beta1"]},
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.article_numbers", description=__doc__)
    add = parser.add_argument
    add("--expectation", required=True, metavar="CSV", help="summary of plot_expectation")
    add("--best", required=True, nargs="+", metavar="CSV", help="tables of best_betas")
    add("--critical", required=True, metavar="JSON", help="summary of plot_best_beta2")
    add("--noise-scale", required=True, nargs="+", metavar="CSV", help="tables of train.noise_scale")
    add("--recorded", required=True, nargs="+", metavar="CSV", help="--best, of the records")
    add("--recorded-critical", required=True, metavar="JSON", help="--critical, of the records")
    add("--recorded-noise-scale", nargs="*", default=[], metavar="CSV", help="--noise-scale, of the records")
    add("--certify", required=True, metavar="CSV", help="table of certify")
    add("--closeness", required=True, metavar="CSV", help="table of sim.closeness")
    add("--map", required=True, metavar="CSV", help="table of sim.turning")
    add("--turning", required=True, metavar="CSV", help="turning points of sim.turning")
    add("--terms", required=True, nargs="+", metavar="CSV", help="tables of sim.terms")
    add("--runs", required=True, nargs="+", metavar="JSON", help="records of train.sweep")
    add("--out", required=True, metavar="JSON", help="numbers of the article")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Collect and write."""
    args = parser().parse_args(argv)
    from analysis import tables
    from analysis.reductions.sweep_numbers import summarize_noise_scale, summarize_sweep

    names = [path for name, path in vars(args).items() if name != "out"]
    certificates = tables.read([args.certify], ["verdict", "published"])
    check_words(certificates, "verdict")
    published = certificates[certificates["published"].notna()]
    with tables.as_written(names):
        numbers = {
            "expectation": summarize_expectation(
                tables.read([args.expectation], EXPECTATION, finite=EXPECTATION)
            ),
            "sweep": summarize_sweep(args.best),
            "noise_scale": summarize_noise_scale(args.noise_scale, args.critical),
            "recorded": summarize_sweep(args.recorded),
            "recorded_noise_scale": summarize_noise_scale(args.recorded_noise_scale, args.recorded_critical),
            "closeness": summarize_closeness(
                tables.read(
                    [args.closeness], ["problem", "algorithm", "correction", "lr", "slope"], ["lr", "slope"]
                )
            ),
            "turning": summarize_turning(
                tables.read([args.map], MAP, finite=MAP[1:]), tables.read([args.turning], TURNING)
            ),
            "terms": summarize_terms(args.terms),
            "runs": summarize_runs(args.runs),
            "certify": {
                "n_published": len(published),
                "n_published_proved": int((published["verdict"] == "proved").sum()),
                "n_new": len(certificates) - len(published),
                "n_refuted": int((certificates["verdict"] == "refuted").sum()),
            },
        }
    write_json(args.out, numbers)


if __name__ == "__main__":
    run(main)
