"""Draw the measured effect of batch noise on E[Corr] beside Proposition 3.3 and the exact second order.

What is drawn is computed by `analysis.reductions.expectation`, which says in what units.
"""

import argparse
from typing import TYPE_CHECKING, Any

from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

THEORIES = {"exact": "exact second order", "predicted": "limit of many steps (Prop. 3.3)"}
"""Columns and names of the curves."""
SHORT = {"exact": "exact", "predicted": "limit"}
"""Names of the curves in the figure."""
NO_BOUND = {"mfc": "white", "label": "measured ± 4 s.e., no bound on higher orders"}
"""Look of a point whose noise is too large for the expansion, so that nothing is held to account."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_expectation", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="written by sim.expectation"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write the averages that are drawn")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Average, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _draw(args)


def draw_panel(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw one batch size: the limit, the exact second order, and what was measured.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : pandas.DataFrame
        Of `analysis.reductions.expectation.noise_effects`, of one batch size.
    """
    import seaborn as sns

    from analysis.drawing import axes, style

    rows = rows.assign(memory=axes.memory(rows["beta2"])).sort_values("memory")
    curves = rows.melt("memory", list(THEORIES), "theory").replace({"theory": THEORIES})
    names = list(THEORIES.values())
    sns.lineplot(
        curves,
        x="memory",
        y="value",
        hue="theory",
        style="theory",
        hue_order=names,
        style_order=names,
        palette=style.colours(names),
        errorbar=None,
        legend=False,
        ax=axis,
    )
    for part, look in ((rows.dropna(subset="excess"), {}), (rows[rows["excess"].isna()], NO_BOUND)):
        bars: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 3.5, "label": "measured ± 4 s.e."} | look
        if len(part):
            axis.errorbar(part["memory"], part["measured"], 4 * part["stderr"], **bars)
    n_batches = rows["n_batches"].iloc[0]
    axis.axvline(n_batches, color="0.5", lw=0.8, ls=":")
    axis.set_title(f"batch size {rows['batch_size'].iloc[0]}\n{n_batches} batches")


def name_curves(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Write the names of the curves, and of the dotted line, into the first panel."""
    from analysis.drawing import axes, style

    last = rows.loc[rows["beta2"].idxmax()]
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "ha": "right"}
    for i, (column, name) in enumerate(SHORT.items()):
        place = (axes.memory(last["beta2"]), last[column])
        axis.annotate(name, place, (0, -12 if column == "exact" else 3), color=style.OKABE_ITO[i], **look)
    look |= {"xycoords": ("data", "axes fraction"), "fontsize": 7, "color": "0.4"}
    axis.annotate("one epoch", (last["n_batches"], 0), (-3, 4), **look)


def _draw(args: argparse.Namespace) -> None:
    import pandas as pd

    from analysis.drawing import axes, style
    from analysis.inputs import tables
    from analysis.reductions.expectation import JUDGED, RESULTS, SETTINGS, noise_effects
    from common.files import write_csv

    columns = [*SETTINGS, *RESULTS, *JUDGED, *JUDGED.values()]
    rows = noise_effects(tables.read(args.tables, columns, finite=RESULTS, finite_where=JUDGED))
    frame = pd.DataFrame(rows)
    style.apply()
    n_panels, height = frame["n_batches"].nunique(), 2.3
    aspect = style.WIDTH / n_panels / height
    grid = style.facets(frame, col="n_batches", height=height, aspect=aspect, sharex=True, sharey=True)
    for n_batches, axis in grid.axes_dict.items():
        axes.log_span(axis, axes.memory(frame["beta2"]))
        draw_panel(axis, frame[frame["n_batches"] == n_batches])
    kinds: dict[str, Any] = {}
    for axis in grid.axes.flat:
        kinds |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    for axis in grid.axes.flat:
        axis.set_yscale("symlog")
        axes.beta_axis(axis, "beta2", betas=(0.5, 0.9, 0.99, 0.999))
        axes.no_minor_ticks(axis, "y")
        axis.set_ylabel("")
    grid.axes.flat[0].set_ylabel("effect of noise on E[Corr]\nper unit of relative variance")
    name_curves(grid.axes.flat[0], frame[frame["n_batches"] == frame["n_batches"].min()])
    if kinds := {name: kind for name, kind in kinds.items() if name == NO_BOUND["label"]}:
        grid.figure.legend(kinds.values(), kinds, loc="outside lower center")
    style.save(grid.figure, args.out)
    if args.summary:
        write_csv(args.summary, rows)


if __name__ == "__main__":
    run(main)
