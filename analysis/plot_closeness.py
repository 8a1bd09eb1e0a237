"""Draw how the memoryless iteration's distance from the algorithm falls with the learning rate (Theorem 2.3).

One panel a problem and algorithm: measured distances with and without the correction, and lines of slope 2 and 1
through the points of the smallest learning rate.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ORDER = {"with": 2, "without": 1}
"""Slope that the theorem gives, with and without the correction."""
PROBLEMS = {"least-squares": "least squares", "quadratics": "quadratics", "cnn": "two-layer CNN"}
ALGORITHMS = {"sgd-momentum": "SGD with momentum", "adam": "Adam"}
COLUMNS = ("problem", "algorithm", "correction", "lr", "distance", "slope", "slope_stderr")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_closeness", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="written by sim.closeness")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def known(values: "pd.Series", names: dict[str, str], what: str) -> list[str]:
    """Return the names that occur in `values`, in the order of `names`.

    Raises
    ------
    InputError
        If `values` holds another name.
    """
    others = sorted(set(values) - set(names))
    if others:
        raise InputError(f"column {what!r} holds {others[0]!r}, allowed: {', '.join(names)}")
    return [name for name in names if name in set(values)]


def draw_panel(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the curves of one problem and algorithm, with their slopes in the legend.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.closeness`.
    """
    from analysis import style

    looks = zip(ORDER.items(), style.OKABE_ITO, style.MARKERS, strict=False)
    for (correction, order), color, marker in looks:
        part = table[table["correction"] == correction].sort_values("lr")
        if part.empty:
            continue
        lr, gap = part["lr"].to_numpy(), part["distance"].to_numpy()
        slope, stderr = part[["slope", "slope_stderr"]].iloc[0]
        axis.plot(lr, gap[0] * (lr / lr[0]) ** order, "--", color=color, lw=0.8)
        label = f"{correction} Corr: {slope:.4f} ± {stderr:.4f}"
        axis.plot(lr, gap, marker, color=color, mfc="none" if order == 1 else color, label=label)
    axis.set(xscale="log", yscale="log")
    legend = axis.legend(
        title="slope ± standard error",
        loc="upper left",
        fontsize=7,
        title_fontsize=7,
        handlelength=1,
        handletextpad=0.3,
        borderaxespad=0.1,
        alignment="left",
    )
    legend.set_in_layout(False)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    from analysis import style, tables

    table = tables.read(args.tables, COLUMNS)
    known(table["correction"], dict.fromkeys(ORDER, ""), "correction")
    problems = known(table["problem"], PROBLEMS, "problem")
    algorithms = known(table["algorithm"], ALGORITHMS, "algorithm")
    style.apply()
    figure, axes = plt.subplots(
        len(algorithms),
        len(problems),
        figsize=(style.WIDTH, 0.6 + 2.0 * len(algorithms)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, algorithm in zip(axes, algorithms, strict=True):
        for axis, problem in zip(row, problems, strict=True):
            draw_panel(axis, table[(table["problem"] == problem) & (table["algorithm"] == algorithm)])
        row[0].set_ylabel(ALGORITHMS[algorithm])
    for axis, problem in zip(axes[0], problems, strict=True):
        axis.set_title(PROBLEMS[problem])
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(low, high * 1000)  # room for the legends
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("largest distance between trajectories (2-norm)", fontsize=9)
    guide = Line2D([], [], color="0.4", ls="--", lw=0.8)
    figure.legend([guide], ["slopes 2 and 1 of Theorem 2.3"], loc="outside lower right")
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
