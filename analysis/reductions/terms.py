"""The terms of E[Corr], measured, beside what predicts them (tables of `sim.terms`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

STUDIES = ("terms", "lines", "moments")
"""Of `sim.terms`; a row of another would be counted as none of them."""

JUDGED = {"excess": "bound"}
"""An excess, and the bound without which there is none: the noise is too large for the expansion."""


def term_ratios(table: "pd.DataFrame") -> list[dict[str, float | str]]:
    """Project measured and predicted terms on the exact ones, one row a term and noise amplitude.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.terms --study terms`.

    Returns
    -------
    list of dict
        problem, optimizer, rho, term; measured, stderr, limit, per_batch: <x, exact>/|exact|^2 over components, 1 for
        x = exact; residual: largest |measured - exact| over largest |exact|; excess: largest, None without a bound.
    """
    rows = []
    settings = ["problem", "optimizer", "rho", "term"]
    for key, part in table.groupby(settings, sort=False):
        exact, distance = part["predicted_exact"], (part["measured"] - part["predicted_exact"]).abs()
        square = (exact**2).sum()
        row = dict(zip(settings, key, strict=True))
        names = {"measured": "measured", "limit": "predicted_limit", "per_batch": "predicted_per_batch"}
        row |= {name: (part[column] * exact).sum() / square for name, column in names.items()}
        # components share their orders: their errors add up at worst
        row["stderr"] = (part["stderr"] * exact.abs()).sum() / square
        excess = None if part["excess"].isna().any() else float(part["excess"].max())
        row |= {"residual": distance.max() / exact.abs().max(), "excess": excess}
        rows.append(row)
    return rows


def summarize(paths: list[str]) -> dict[str, Any]:
    """Count the comparisons term by term and the worst of them (the tables of `sim.terms`)."""
    from analysis.inputs import tables

    table = tables.read(paths, ["study", "term", "excess", "bound"], finite_where=JUDGED)
    tables.check_words(table, "study", STUDIES)
    by_study = table.groupby("study")["excess"]
    judged = by_study.count()
    return {
        "n_cases": len(paths),
        "n_rows": by_study.size().to_dict(),
        "n_without_bound": (by_study.size() - judged).to_dict(),
        "largest_excess": {study: by_study.max()[study] if n else None for study, n in judged.items()},
        "n_violated": int((table["excess"] > 1).sum()),
    }
