"""Draw each term of E[Corr_n], measured, beside its exact prediction and the limit of Proposition 3.3.

One panel for a table of `sim.terms` with several noise amplitudes (how the distance to the prediction falls), one for
every other table of terms (measured and limit, relative to exact), and one row for a table of lines.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LABELS = {"|g|^2": r"$|g|^2$", "tr(Sigma)": r"tr $\Sigma$"}
PLACES = {"root": "R", "first": "M", "gradient": "g", "hessian": "H", "updates": "u"}
"""Short names of the places of `expansion.noise_sources`."""
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
"""Where a legend sits."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_terms", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="written by sim.terms")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write what is drawn, one row a table and term")
    return parser


def term_ratios(table: "pd.DataFrame") -> list[dict[str, float | str]]:
    """Project measured and predicted terms on the exact ones, one row a term and noise amplitude.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.terms --study terms`.

    Returns
    -------
    list of dict
        problem, algorithm, rho, term; measured, stderr, limit, per_batch: <x, exact>/|exact|^2 over components, 1 for
        x = exact; residual: largest |measured - exact| over largest |exact|; excess: largest.
    """
    rows = []
    settings = ["problem", "algorithm", "rho", "term"]
    for key, part in table.groupby(settings, sort=False):
        exact, distance = part["predicted_exact"], (part["measured"] - part["predicted_exact"]).abs()
        square = (exact**2).sum()
        row = dict(zip(settings, key, strict=True))
        names = {"measured": "measured", "limit": "predicted_limit", "per_batch": "predicted_per_batch"}
        row |= {name: (part[column] * exact).sum() / square for name, column in names.items()}
        # components share their orders: their errors add up at worst
        row["stderr"] = (part["stderr"] * exact.abs()).sum() / square
        row |= {"residual": distance.max() / exact.abs().max(), "excess": part["excess"].max()}
        rows.append(row)
    return rows


def plot_residuals(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw |measured - exact| relative to exact against the noise, log-log, with a line of slope 2."""
    from analysis import style

    for i, (term, part) in enumerate(rows[rows["term"] != "FB"].groupby("term", sort=False)):
        axis.plot(part["rho"], part["residual"], style.MARKERS[i] + "-", color=style.OKABE_ITO[i], label=term)
    ends = rows["rho"].agg(["min", "max"])
    axis.plot(ends, rows["residual"].max() * 3 * (ends / ends["max"]) ** 2, ":", color="0.4", label="slope 2")
    axis.set(xscale="log", yscale="log", title=f"all orders, {rows['problem'].iloc[0]}")
    axis.set(xlabel="largest relative noise of a batch", ylabel="|measured − exact| / |exact|")
    axis.legend(**BESIDE)


def plot_ratios(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw measured and limit in units of the exact value, term by term."""
    from analysis import style

    x = range(len(rows))
    axis.axhline(1, color=style.OKABE_ITO[0], label="exact")
    axis.plot(x, rows["limit"], "s", color=style.OKABE_ITO[1], mfc="none", label="limit")
    if rows["algorithm"].iloc[0] != "adam":
        axis.plot(x, rows["per_batch"], "D", color=style.OKABE_ITO[2], mfc="none", label="limit, 1/b for v")
    axis.errorbar(
        x, rows["measured"], 4 * rows["stderr"], fmt="o", color="black", ms=3, label="measured ± 4 s.e."
    )
    axis.set_xticks(x, [LABELS.get(term, term) for term in rows["term"]], rotation=60)
    axis.set_xlim(-0.6, len(rows) - 0.4)
    name = rows["problem"].iloc[0] + ("" if rows["algorithm"].iloc[0] == "adam" else ", SGD")
    axis.set_title(name)


def plot_lines(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the lines of Proposition A.6 for the first component, relative to the largest of them."""
    from analysis import style

    table = table[table["component"].astype(str) == "0"]
    if table["batches"].isna().all():
        raise InputError(
            "the table of lines has no row of component 0 that names its batches, allowed: at least one"
        )
    unit = table["predicted_exact"].abs().max()
    for i, (batches, part) in enumerate(table.groupby("batches", sort=False)):
        x = [k + 0.4 * i - 0.2 for k in range(len(part))]
        axis.bar(
            x, part["predicted_exact"] / unit, 0.38, color=style.OKABE_ITO[i], label=f"exact, {batches} batch"
        )
        label = "measured" if i == 0 else None
        axis.plot(x, part["measured"] / unit, "o", color="black", mfc="white", ms=3, label=label)
    names = [" ".join(PLACES[place] for place in places.split()) for places in part["places"]]
    axis.set_xticks(range(len(names)), names)
    n_first = (part["part"] == "L/R").sum()
    axis.axvline(n_first - 0.5, color="0.5", lw=0.8)
    for at, text in ((n_first / 2 - 0.5, "$L_n/R_n$"), ((n_first + len(part)) / 2 - 0.5, "$-M_nP_n/R_n^3$")):
        axis.annotate(
            text, (at, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center"
        )
    axis.axhline(0, color="0.5", lw=0.8)
    axis.set_yscale("symlog", linthresh=1e-4)
    axis.set_yticks([-1, -1e-2, -1e-4, 0, 1e-4, 1e-2, 1])
    axis.set(xlabel="places of the two noises", ylabel="contribution to E[Corr]\n/ largest of them")
    axis.set_ylim(-50, 2)
    axis.legend(ncols=3, loc="lower right")


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    import pandas as pd

    from analysis import style, tables
    from common.files import write_csv

    columns = ["study", "problem", "algorithm", "rho", "term", "part", "places", "batches", "component"]
    columns += ["measured", "stderr", "predicted_limit", "predicted_per_batch", "predicted_exact", "excess"]
    finite = ["measured", "stderr", "predicted_exact", "excess"]
    read = [tables.read([path], columns, finite) for path in args.tables]
    lines = [table for table in read if table["study"].iloc[0] == "lines"]
    terms = [pd.DataFrame(term_ratios(table)) for table in read if table["study"].iloc[0] == "terms"]
    if not terms or len(lines) > 1:
        raise InputError("--tables needs a table of terms, and takes at most one of lines")
    falling = [rows for rows in terms if rows["rho"].nunique() > 1]
    sgd = [rows for rows in terms if rows["rho"].nunique() == 1 and rows["algorithm"].iloc[0] != "adam"]
    adam = [rows for rows in terms if rows["rho"].nunique() == 1 and rows["algorithm"].iloc[0] == "adam"]
    panels = [
        [(plot_residuals, rows) for rows in falling] + [(plot_ratios, rows) for rows in sgd],
        [(plot_ratios, rows) for rows in adam],
        [(plot_lines, table) for table in lines],
    ]
    panels = [row for row in panels if row]
    style.apply()
    figure = plt.figure(figsize=(style.WIDTH, 2.25 * len(panels)))
    for cell, row in zip(figure.add_gridspec(len(panels), 1), panels, strict=True):
        share = all(draw is plot_ratios for draw, _ in row)
        axes = cell.subgridspec(1, len(row)).subplots(squeeze=False, sharey=share)[0]
        ratios = [axis for axis, (draw, _) in zip(axes, row, strict=True) if draw is plot_ratios]
        for axis, (draw, table) in zip(axes, row, strict=True):
            draw(axis, table)
        if ratios:
            ratios[0].set_ylabel("value / exact value")
            ratios[-1].legend(**BESIDE)
    style.save(figure, args.out)
    if args.summary:
        write_csv(args.summary, [row for rows in terms for row in rows.to_dict("records")])


if __name__ == "__main__":
    run(main)
