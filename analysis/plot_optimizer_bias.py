"""Draw C_total of the scale-invariant optimisers against the noise-to-signal ratio and against the batch size."""

import argparse
from typing import TYPE_CHECKING, Any

from analysis.reductions.optimizer_bias import COLUMNS, FINITE, summarize
from common.cli import Parser, run
from common.files import write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TITLES = {
    "adam": "Adam",
    "nadam": "NAdam",
    "rmsprop-long": r"RMSprop, $\beta_2$ = 0.999",
    "rmsprop": "RMSprop",
    "adam-short": r"Adam, $\beta_2$ = 0.95",
    "adam-p4": "Adam, power 4",
    "adam-p1": "Adam, power 1",
    "ademamix": "AdEMAMix",
    "invariant-adam": "invariant Adam",
}
"""Of the cases of `sim.memory.optimizer_bias_study`, in the order of the legend."""
DASHES = {"nadam": (0, (4, 3)), "rmsprop-long": (0, (4, 6)), "invariant-adam": (0, (1, 1.2))}
"""Of those that lie on Adam's curve, and of the ninth, for which there is no colour of its own."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_optimizer_bias", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", required=True, metavar="CSV", help="written by sim.optimizer_bias")
    parser.add_argument("--summary", metavar="JSON", help="also write the numbers that the article quotes")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def colours() -> dict[str, str]:
    """Return the colour of each case; its name is written in it, for which yellow is too light."""
    from analysis.drawing import style

    return style.colours(TITLES) | {"ademamix": "0.5"}


def draw(axis: "Axes", table: "pd.DataFrame", x: str, y: str) -> None:
    """Draw a curve a case.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.optimizer_bias`.
    x, y : str
        Columns.
    """
    from analysis.drawing import axes

    palette = colours()
    for case, title in TITLES.items():
        rows = table[(table["case"] == case) & (table[x] > 0)].sort_values(x)
        look: dict[str, Any] = {
            "ls": DASHES.get(case, "-"),
            "color": palette[case],
            "zorder": 2 + (case in DASHES),
        }
        axis.plot(rows[x], rows[y], label=title, **look)
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_yscale("symlog", linthresh=10)
    axis.set_yticks([-(10**4), -(10**3), -100, -10, 0, 10, 100, 10**3, 10**4])
    axes.no_minor_ticks(axis, "y")
    axis.set_ylabel("")


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables, titles

    with tables.refuse_malformed([args.tables]):
        table = tables.read([args.tables], COLUMNS, finite=FINITE)
        titles.known(table["case"], TITLES, "case")
        summary = summarize(table)
        _draw(table, args.out)
    if args.summary:
        write_json(args.summary, summary)


def _draw(table: "pd.DataFrame", out: str) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import axes, style

    style.apply()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.6), sharey=True)
    draw(left, table, "lam", "c_total_limit")
    draw(right, table, "batch_size", "c_total_exact")
    axes.log_axis(left, "x")
    left.set_xlabel(r"noise-to-signal ratio $\lambda$ of a batch")
    left.set_ylabel(r"$C_{total}$ / step size$^2$")
    left.set_title("limit of many steps")
    axes.counts_axis(right, [64, 256, 1024, 4096, 16384])
    right.set_xlabel("batch size")
    right.set_title(f"exact, end of epoch {table['n_epochs'].iloc[0]:.0f}")
    palette = colours()
    smallest = table[table["batch_size"] == table["batch_size"].min()]
    ends = {
        TITLES[row.case]: (row.lam, row.c_total_limit, palette[row.case]) for row in smallest.itertuples()
    }
    axes.label_ends(left, ends, gap=7.5)
    for text in left.texts:
        text.set_fontsize(7)
    style.save(figure, out)


if __name__ == "__main__":
    run(main)
