"""Draw minimal validation perplexity against beta1 or beta2, as Figures 2 and 3 of Cattaneo and Shigida (2026).

A panel a learning rate with a curve a batch size; a single learning rate with few batch sizes gets a panel a batch
size. Hollow marks at the bottom stand for cells of the grid that are not yet run, a grey name in the legend for a
batch size of which none is, crosses at the top for values of which a run diverged. The ring marks the best mean.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.inputs import sweep_flags, titles
from common.cli import Parser, run
from common.files import write_csv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 4
"""Most batch sizes that get a panel of their own."""
MISSING_GREY = "0.6"
TOP = 1.3
"""End of the axis of perplexity, as a multiple of the least mean."""


@dataclass(frozen=True)
class Look:
    """How the curve of a batch size looks, whether it has a run, and its place among the marks at the edges."""

    begun: bool
    place: int
    colour: Any
    marker: str


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_sweep", description=__doc__)
    sweep_flags.add_flags(parser)
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


def draw_curves(
    axis: "Axes", runs: "pd.DataFrame", cells: "pd.DataFrame", swept: str, look: dict[int, Look]
) -> None:
    """Draw the means of runs over their seeds, with bars; ring the best of each batch size; mark what is missing.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        See `set_axis`.
    runs : pandas.DataFrame
        See `analysis.reductions.sweeps.read_runs`, those of the panel.
    cells : pandas.DataFrame
        See `analysis.reductions.sweeps.cells`, those of the panel.
    swept : {"beta1", "beta2"}
    look : dict
        From a batch size to its `Look`.
    """
    import seaborn as sns

    from analysis.drawing import axes, style
    from analysis.reductions import sweeps

    sizes = [size for size in look if look[size].begun and size in set(cells["batch_size"])]
    runs = runs[runs["batch_size"].isin(sizes)].dropna(subset="min_valid_perplexity")
    if len(runs):
        sns.lineplot(
            runs.assign(memory=axes.memory(runs[swept])),
            x="memory",
            y="min_valid_perplexity",
            hue="batch_size",
            style="batch_size",
            palette={size: look[size].colour for size in sizes},
            markers={size: look[size].marker for size in sizes},
            dashes=False,
            **style.FLAT,
            errorbar=sweeps.error_bar,
            err_style="bars",
            legend=False,
            ax=axis,
        )
    for size in sizes:
        mark_cells(axis, cells[cells["batch_size"] == size], swept, look[size])


def best_of(part: "pd.DataFrame") -> Any:
    """Return the row of the least mean of one learning rate and batch size, None unless two values can be compared."""
    flawless = part["mean"][(part["status"] == "measured") & (part["n_diverged"] == 0)]
    return flawless.idxmin() if len(flawless) > 1 else None


def mark_cells(axis: "Axes", part: "pd.DataFrame", swept: str, look: Look) -> None:
    """Ring the best cell of one learning rate and batch size, and mark at the edges what is missing or diverged.

    The ring of a best at an end of the grid is a square.
    """
    from analysis.drawing import axes

    memory, mean, best = axes.memory(part[swept]), part["mean"], best_of(part)
    if best is not None:
        ring = "s" if memory[best] in (memory.min(), memory.max()) else "o"
        axis.plot(memory[best], mean[best], ring, ms=10, mfc="none", color=look.colour, mew=1, clip_on=False)
    edge = axis.get_xaxis_transform()  # memory, share of the height
    for where, marker, height in (
        (part["status"] == "missing", look.marker, 0.03 + 0.045 * look.place),
        (part["n_diverged"] > 0, "x", 0.97 - 0.045 * look.place),
    ):
        heights = [height] * int(where.sum())
        axis.plot(memory[where], heights, marker, mfc="none", color=look.colour, mew=0.7, transform=edge)


def set_axis(axis: "Axes", cells: "pd.DataFrame", swept: str, title: str) -> None:
    """Set scale, ticks and title of a panel, and say so where nothing is measured."""
    from analysis.drawing import axes

    memory = axes.memory(cells[swept])
    axis.set(xscale="log", xlim=(memory.min() / 1.3, memory.max() * 1.3), title=title)
    axes.beta_axis(axis, swept)
    if not (cells["status"] == "measured").any():
        axis.set_yticks([])
        axis.text(0.5, 0.5, "not yet run", ha="center", color=MISSING_GREY, transform=axis.transAxes)


def pad_y_limits(axis: "Axes", n_below: int, n_above: int) -> None:
    """Widen the axis so that no curve meets the marks at its edges."""
    low, high = axis.get_ylim()
    share_low, share_high = (0.06 + 0.045 * n if n else 0.03 for n in (n_below, n_above))
    height = (high - low) / (1 - share_low - share_high)
    axis.set_ylim(low - share_low * height, high + share_high * height)


def share_y_limits(panels: Sequence["Axes"], cells: "pd.DataFrame") -> None:
    """Give all panels the same axis, up to `TOP` times the least mean: what is worse leaves at the top."""
    import numpy as np

    least, limits = cells["mean"].min(), np.array([axis.get_ylim() for axis in panels])
    if np.isfinite(least):
        top = min(limits.max(), TOP * least)
        bottom = max(limits.min(), least - 0.15 * (top - least))
        for axis in panels:
            axis.set_ylim(bottom, top)
            axis.label_outer()
            for line in axis.lines:  # rings, which the edge does not clip
                line.set_visible(line.get_clip_on() or np.max(line.get_ydata()) <= top)


def main(argv: list[str] | None = None) -> None:
    """Reduce, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import style
    from analysis.reductions import sweeps

    runs, cells = sweep_flags.read_cells(args)
    style.apply()
    sizes, rates = sorted(cells["batch_size"].unique()), sorted(cells["lr"].unique(), reverse=True)
    alone = len(rates) == 1 and len(sizes) <= MAX_PANELS
    look = looks(cells, alone)
    panels = [(rates[0], [size]) for size in sizes] if alone else [(rate, sizes) for rate in rates]
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, 2.7 if alone else 3.6), squeeze=False)
    for axis, (rate, sizes) in zip(axes[0], panels, strict=True):
        panel = cells[(cells["lr"] == rate) & cells["batch_size"].isin(sizes)]
        begun = [size for size in sizes if look[size].begun] if (panel["status"] != "missing").any() else []
        drawn = panel[panel["batch_size"].isin(begun)]
        title = f"batch size {sizes[0]}, lr {rate:g}" if alone else f"lr {rate:.3g}"
        set_axis(axis, panel, args.swept, title)
        draw_curves(axis, runs[runs["lr"] == rate], drawn, args.swept, look)
        axis.set(xlabel=rf"$\beta_{args.swept[-1]}$", ylabel="")
        edges = drawn[drawn["status"] == "missing"], drawn[drawn["n_diverged"] > 0]
        pad_y_limits(
            axis, *(max((1 + look[size].place for size in edge["batch_size"]), default=0) for edge in edges)
        )
    share_y_limits(axes[0], cells)
    axes[0, 0].set_ylabel("minimal validation perplexity")
    corpus = f" on {titles.CORPORA.get(*[runs['corpus'].iloc[0]] * 2)}" if len(runs) else ""
    figure.suptitle(f"Transformer-XL{corpus}; {sweeps.error_words(cells)}", fontsize=9)
    _legend(figure, cells, look, alone, args.swept)
    style.save(figure, args.out)
    if args.summary:
        write_csv(args.summary, cells.to_dict("records"))


def _legend(figure: "Figure", cells: "pd.DataFrame", look: dict[int, Look], alone: bool, swept: str) -> None:
    """Name batch sizes, those without a run in grey, and the marks that occur."""
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for size, its in look.items() if not alone else ():
        labels.append(f"b = {size}")
        handles.append(
            Line2D([], [], color=its.colour, marker=its.marker, mfc=its.colour if its.begun else "none")
        )
    best = [best_of(part) for _, part in cells.groupby(["lr", "batch_size"])]
    at_end = cells[swept].isin((cells[swept].min(), cells[swept].max())) & cells.index.isin(best)
    marks = [
        ("best mean", cells.index.isin(best) & ~at_end, "o", 10),
        ("best mean, at the end of the grid", at_end, "s", 10),
    ]
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
        handles, labels, loc="outside lower center", ncols=min(len(handles), 4), title=title, title_fontsize=8
    )
    for text, its in zip(legend.get_texts(), look.values() if not alone else (), strict=False):
        text.set_color("black" if its.begun else MISSING_GREY)


if __name__ == "__main__":
    run(main)
