"""Draw how the memoryless iteration's distance from the optimizer falls with the learning rate (Theorem 2.3).

One panel a problem and optimizer: measured distances with and without the correction, and lines of slope 2 and 1
through the points of the smallest learning rate.
"""

import argparse
from typing import TYPE_CHECKING

from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ORDER = {"with": 2, "without": 1}
"""Slope that the theorem gives, with and without the correction."""
COLUMNS = ("problem", "optimizer", "correction", "lr", "distance", "slope", "slope_stderr")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_closeness", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="written by sim.closeness")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def draw_panel(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the curves of one problem and optimizer, with their slopes beside them.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.closeness`.
    """
    import seaborn as sns

    from analysis.drawing import style

    palette, marks = style.colours(ORDER), style.markers(ORDER)
    for correction, order in ORDER.items():
        part = table[table["correction"] == correction].sort_values("lr")
        if part.empty:
            continue
        lr, gap = part["lr"].to_numpy(), part["distance"].to_numpy()
        axis.plot(lr, gap[0] * (lr / lr[0]) ** order, "--", color=palette[correction], lw=0.8)
        slope, stderr = part[["slope", "slope_stderr"]].iloc[0]
        at = len(lr) // 2
        axis.annotate(
            f"{correction} Corr\n{slope:.4f} ± {stderr:.4f}",
            (lr[at], gap[at]),
            (0, 7 if order == 1 else -7),
            textcoords="offset points",
            color=palette[correction],
            fontsize=7,
            ha="right" if order == 1 else "left",
            va="bottom" if order == 1 else "top",
        )
    sns.scatterplot(
        table,
        x="lr",
        y="distance",
        hue="correction",
        style="correction",
        palette=palette,
        markers=marks,
        legend=False,
        ax=axis,
    )


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    from matplotlib.lines import Line2D

    from analysis.drawing import axes, style
    from analysis.inputs import tables, titles

    table = tables.read(args.tables, COLUMNS)
    tables.check_words(table, "correction", ORDER)
    problems = titles.known(table["problem"], titles.PROBLEMS, "problem")
    optimizers = titles.known(table["optimizer"], titles.OPTIMIZERS, "optimizer")
    style.apply()
    shape = {"row": "optimizer", "col": "problem", "row_order": optimizers, "col_order": problems}
    height = 2.1
    aspect = style.WIDTH / len(problems) / height
    grid = style.facets(table, **shape, height=height, aspect=aspect, sharex=True, sharey=True)
    for (optimizer, problem), axis in grid.axes_dict.items():
        draw_panel(axis, table[(table["problem"] == problem) & (table["optimizer"] == optimizer)])
    for axis in grid.axes.flat:
        axis.margins(y=0.2)
        axes.log_axis(axis, "x")
        axes.log_axis(axis)
        axis.set(xlabel="", ylabel="", title="")
    for row, optimizer in zip(grid.axes, optimizers, strict=True):
        row[0].set_ylabel(titles.OPTIMIZERS[optimizer])
    for axis, problem in zip(grid.axes[0], problems, strict=True):
        axis.set_title(titles.PROBLEMS[problem])
    grid.set_xlabels("learning rate")
    grid.figure.supylabel("largest distance between trajectories (2-norm)", fontsize=9)
    guide = Line2D([], [], color="0.4", ls="--", lw=0.8)
    label = "slopes 2 and 1 of Theorem 2.3;  numbers: fitted slope ± standard error"
    grid.figure.legend([guide], [label], loc="outside lower center")
    style.save(grid.figure, args.out)


if __name__ == "__main__":
    run(main)
