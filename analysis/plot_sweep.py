"""Draw minimal validation perplexity against beta1 or beta2, as Figures 2 and 3 of Cattaneo and Shigida (2026).

A panel a learning rate with a curve a batch size; a single learning rate with few batch sizes gets a panel a batch
size. Hollow marks at the bottom stand for cells of the grid that are not yet run, a grey name in the legend for a
batch size of which none is, crosses at the top for values of which a run diverged. The ring marks the best mean.
"""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.cli import Parser, run
from common.files import write_csv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 4
"""Most batch sizes that get a panel of their own."""
TICKS = {0: "0", 0.5: "0.5", 0.8: "0.8", 0.9: "0.9", 0.97: "0.97", 0.99: "0.99", 0.999: "0.999"}
MISSING_GREY = "0.6"


@dataclass(frozen=True)
class Look:
    """How the curve of a batch size looks, whether it has a run, and its place among the marks at the edges."""

    begun: bool
    place: int
    colour: object
    marker: str


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from analysis.reductions import sweeps

    parser = Parser(prog="python -m analysis.plot_sweep", description=__doc__)
    sweeps.add_flags(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write the cells that are drawn")
    return parser


def looks(cells: "pd.DataFrame", alone: bool) -> dict[int, Look]:
    """Choose how batch sizes look: in a panel of its own any colour, as one among many a place from dark to light.

    Parameters
    ----------
    cells : pandas.DataFrame
        See `analysis.reductions.sweeps.cells`.
    alone : bool
        Whether each batch size has panels of its own.
    """
    import matplotlib as mpl

    from analysis.drawing import style

    sizes, scale = sorted(cells["batch_size"].unique()), mpl.colormaps["viridis"]
    n = len(sizes)
    colours = style.OKABE_ITO[:n] if alone else [scale(0.9 * i / max(n - 1, 1)) for i in range(n)]
    begun = sorted(cells["batch_size"][cells["status"] != "missing"].unique())
    return {
        size: Look(
            begun=alone or size in begun,
            place=begun.index(size) if size in begun and not alone else 0,
            colour=colours[i] if alone or size in begun else MISSING_GREY,
            marker=style.MARKERS[i % len(style.MARKERS)],
        )
        for i, size in enumerate(sizes)
    }


def draw_curve(axis: "Axes", part: "pd.DataFrame", swept: str, look: Look) -> None:
    """Draw the cells of one learning rate and batch size.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    part : pandas.DataFrame
        See `analysis.reductions.sweeps.cells`.
    swept : {"beta1", "beta2"}
    look : Look
    """
    from analysis.reductions.sweeps import NONE

    edge = axis.get_xaxis_transform()  # memory, share of the height
    memory, mean = 1 / (1 - part[swept]), part["mean"]
    done = part["status"] == "measured"
    bars = [(gap[done]).where(part["error"] != NONE) for gap in (mean - part["low"], part["high"] - mean)]
    axis.errorbar(memory[done], mean[done], bars, marker=look.marker, color=look.colour)
    flawless = mean[done & (part["n_diverged"] == 0)]
    if len(flawless) > 1:
        best = flawless.idxmin()
        axis.plot(memory[best], mean[best], "o", ms=10, mfc="none", color=look.colour, mew=1, clip_on=False)
    for where, marker, height in (
        (part["status"] == "missing", look.marker, 0.03 + 0.045 * look.place),
        (part["n_diverged"] > 0, "x", 0.97 - 0.045 * look.place),
    ):
        heights = [height] * int(where.sum())
        axis.plot(memory[where], heights, marker, mfc="none", color=look.colour, mew=0.7, transform=edge)


def set_axis(axis: "Axes", cells: "pd.DataFrame", swept: str, title: str) -> None:
    """Set scale, ticks and title of a panel, and say so where nothing is measured."""
    memory = 1 / (1 - cells[swept])
    low, high = memory.min() / 1.3, memory.max() * 1.3
    ticks = {1 / (1 - value): text for value, text in TICKS.items() if low <= 1 / (1 - value) <= high}
    axis.set(xscale="log", xlim=(low, high), title=title, xlabel=rf"$\beta_{swept[-1]}$")
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    if not (cells["status"] == "measured").any():
        axis.set_yticks([])
        axis.text(0.5, 0.5, "not yet run", ha="center", color=MISSING_GREY, transform=axis.transAxes)


def pad_y_limits(axis: "Axes", n_below: int, n_above: int) -> None:
    """Widen the axis so that no curve meets the marks at its edges."""
    low, high = axis.get_ylim()
    share_low, share_high = (0.06 + 0.045 * n if n else 0.03 for n in (n_below, n_above))
    height = (high - low) / (1 - share_low - share_high)
    axis.set_ylim(low - share_low * height, high + share_high * height)


def main(argv: list[str] | None = None) -> None:
    """Reduce, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.as_written(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import style
    from analysis.reductions import sweeps

    runs, cells = sweeps.read_cells(args)
    style.apply()
    sizes, rates = sorted(cells["batch_size"].unique()), sorted(cells["lr"].unique(), reverse=True)
    alone = len(rates) == 1 and len(sizes) <= MAX_PANELS
    look = looks(cells, alone)
    panels = [(rates[0], [size]) for size in sizes] if alone else [(rate, sizes) for rate in rates]
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, 2.7 if alone else 3.6), squeeze=False)
    for axis, (rate, shown) in zip(axes[0], panels, strict=True):
        panel = cells[(cells["lr"] == rate) & cells["batch_size"].isin(shown)]
        begun = [size for size in shown if look[size].begun] if (panel["status"] != "missing").any() else []
        for size in begun:
            draw_curve(axis, panel[panel["batch_size"] == size], args.swept, look[size])
        title = f"batch size {shown[0]}, lr {rate:g}" if alone else f"lr {rate:.3g}"
        set_axis(axis, panel, args.swept, title)
        drawn = panel[panel["batch_size"].isin(begun)]
        edges = drawn[drawn["status"] == "missing"], drawn[drawn["n_diverged"] > 0]
        pad_y_limits(
            axis, *(max((1 + look[size].place for size in edge["batch_size"]), default=0) for edge in edges)
        )
    axes[0, 0].set_ylabel("minimal validation perplexity")
    corpus = f" on {runs['corpus'].iloc[0]}" if len(runs) else ""
    figure.suptitle(f"Transformer-XL{corpus}; {sweeps.error_words(cells)}", fontsize=9)
    _legend(figure, cells, look, alone)
    style.save(figure, args.out)
    if args.summary:
        write_csv(args.summary, cells.to_dict("records"))


def _legend(figure: "Figure", cells: "pd.DataFrame", look: dict[int, Look], alone: bool) -> None:
    """Name batch sizes, those without a run in grey, and the marks that occur."""
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for size, its in look.items() if not alone else ():
        labels.append(f"b = {size}")
        handles.append(
            Line2D([], [], color=its.colour, marker=its.marker, mfc=its.colour if its.begun else "none")
        )
    marks = [("best mean", cells["status"] == "measured", "o", 10)]
    marks += [
        ("not yet run", cells["status"] == "missing", "o", 4),
        ("a run diverged", cells["n_diverged"] > 0, "x", 4),
    ]
    for label, where, marker, size in marks:
        if where.any():
            labels.append(label)
            handles.append(Line2D([], [], ls="", marker=marker, mfc="none", color="0.3", ms=size, mew=0.8))
    title = None if all(its.begun for its in look.values()) else "grey: no run yet"
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(handles), 6), title=title, title_fontsize=8
    )
    for text, its in zip(legend.get_texts(), look.values() if not alone else (), strict=False):
        text.set_color("black" if its.begun else MISSING_GREY)


if __name__ == "__main__":
    run(main)
