"""Draw each term of E[Corr_n], measured, beside its exact prediction and the limit of Proposition 3.3.

One panel for a table of `sim.terms` with several noise amplitudes (how the distance to the prediction falls), one for
every other table (measured and limit, relative to exact).
"""

import argparse
from typing import TYPE_CHECKING, Any

from analysis.inputs import titles
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LABELS = {"|g|^2": r"$|g|^2$", "tr(Sigma)": r"tr $\Sigma$"}
NO_BOUND = "no bound on higher orders"
"""Of a noise that is too large for the expansion: nothing is held to account."""
PREDICTIONS = {"limit": "limit", "per_batch": "limit, 1/b for v"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_terms", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="written by sim.terms")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write what is drawn, one row a table and term")
    return parser


def plot_residuals(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw |measured - exact| relative to exact against the noise, log-log, with a line of slope 2."""
    import seaborn as sns

    from analysis.drawing import axes, style

    noisy = rows[rows["term"] != "FB"]
    names = list(dict.fromkeys(noisy["term"]))
    palette = style.colours(names)
    look = {"palette": palette, "markers": style.markers(names), "dashes": False} | style.FLAT
    sns.lineplot(
        noisy,
        x="rho",
        y="residual",
        hue="term",
        style="term",
        errorbar=None,
        legend=False,
        ax=axis,
        **look,
    )
    unbounded = noisy[noisy["excess"].isna()]
    if len(unbounded):
        hollow: dict[str, Any] = {"fc": "white", "ec": "0.2", "s": 12, "zorder": 4, "label": NO_BOUND}
        axis.scatter(unbounded["rho"], unbounded["residual"], **hollow)
        axis.legend(loc="lower right")
    ends = rows["rho"].agg(["min", "max"])
    guide = rows["residual"].max() * 3 * (ends / ends["max"]) ** 2
    axis.plot(ends, guide, ":", color="0.4")
    axes.log_axis(axis, "x")
    axes.log_axis(axis)
    problem = titles.PROBLEMS.get(rows["problem"].iloc[0], rows["problem"].iloc[0])
    axis.set(xlabel="largest relative noise of a batch", title=f"all orders, {problem}")
    axis.set_ylabel("|measured − exact| / |exact|")
    last = noisy.sort_values("rho").groupby("term", sort=False).last()
    places = {term: (row["rho"], row["residual"], palette[term]) for term, row in last.iterrows()}
    axes.label_ends(axis, places | {"slope 2": (ends["max"], guide["max"], "0.4")})


def plot_ratios(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw measured and limit in units of the exact value, term by term."""
    import seaborn as sns

    from analysis.drawing import style

    adam = rows["optimizer"].iloc[0] == "adam"
    rows = rows.assign(label=[LABELS.get(term, term) for term in rows["term"]])
    predicted = rows.melt("label", ["limit"] if adam else list(PREDICTIONS), "theory")
    predicted = predicted.replace({"theory": PREDICTIONS})
    colours = {name: style.OKABE_ITO[i] for i, name in enumerate(PREDICTIONS.values(), 1)}
    marks = dict(zip(PREDICTIONS.values(), ("s", "D"), strict=True))
    axis.axhline(1, color=style.OKABE_ITO[0], label="exact")
    look = {"palette": colours, "markers": marks, "s": 30, "zorder": 1.5}
    sns.scatterplot(predicted, x="label", y="value", hue="theory", style="theory", ax=axis, **look)
    bars: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 3, "zorder": 3, "label": "measured ± 4 s.e."}
    hollow = {"mfc": "white", "label": f"{bars['label']}, {NO_BOUND}"}
    for part, kind in ((rows.dropna(subset="excess"), {}), (rows[rows["excess"].isna()], hollow)):
        if len(part):
            axis.errorbar(part["label"], part["measured"], 4 * part["stderr"], **bars | kind)
    if legend := axis.get_legend():
        legend.remove()
    axis.set(xlim=(-0.6, len(rows) - 0.4), xlabel="", ylabel="", title=_name(rows))
    axis.tick_params("x", rotation=60)


def _name(rows):
    """Problem of a table of terms, and its optimizer if it is not Adam."""
    problem, optimizer = rows["problem"].iloc[0], rows["optimizer"].iloc[0]
    name = titles.PROBLEMS.get(problem, problem)
    return name if optimizer == "adam" else f"{name},\n{titles.OPTIMIZERS.get(optimizer, optimizer)}"


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    import pandas as pd

    from analysis.drawing import style
    from analysis.inputs import tables
    from analysis.reductions.terms import JUDGED, term_ratios
    from common.files import write_csv

    columns = ["study", "problem", "optimizer", "rho", "term", "part", "component", "measured", "stderr"]
    columns += ["predicted_limit", "predicted_per_batch", "predicted_exact", *JUDGED, *JUDGED.values()]
    read = [
        tables.read([path], columns, ["measured", "stderr", "predicted_exact"], JUDGED)
        for path in args.tables
    ]
    for table in read:
        tables.check_words(table, "study", ("terms",))
    terms = [pd.DataFrame(term_ratios(table)) for table in read]
    falling = [rows for rows in terms if rows["rho"].nunique() > 1]
    sgd = [rows for rows in terms if rows["rho"].nunique() == 1 and rows["optimizer"].iloc[0] != "adam"]
    adam = [rows for rows in terms if rows["rho"].nunique() == 1 and rows["optimizer"].iloc[0] == "adam"]
    panels: list[list[tuple[Any, Any]]] = [  # a function that draws, and its rows
        [(plot_residuals, rows) for rows in falling] + [(plot_ratios, rows) for rows in sgd],
        [(plot_ratios, rows) for rows in adam],
    ]
    panels = [row for row in panels if row]
    style.apply()
    figure = plt.figure(figsize=(style.WIDTH, 2.25 * len(panels)))
    grid = figure.add_gridspec(len(panels), 1)
    named: dict[str, Any] = {}
    for i, row in enumerate(panels):
        cell = grid[i, 0]
        share = all(draw is plot_ratios for draw, _ in row)
        axes = cell.subgridspec(1, len(row)).subplots(squeeze=False, sharey=share)[0]
        ratios = [axis for axis, (draw, _) in zip(axes, row, strict=True) if draw is plot_ratios]
        for axis, (draw, table) in zip(axes, row, strict=True):
            draw(axis, table)
        if ratios:
            ratios[0].set_ylabel("value / exact value")
        for axis in ratios:
            named |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=4)
    style.save(figure, args.out)
    if args.summary:
        records = [row for rows in terms for row in rows.to_dict("records")]
        excess = (None if pd.isna(row["excess"]) else row["excess"] for row in records)
        write_csv(args.summary, [row | {"excess": one} for row, one in zip(records, excess, strict=True)])


if __name__ == "__main__":
    run(main)
