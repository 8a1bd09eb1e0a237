"""Draw the noise scale B_simple along training (Figure 4), and how far single components are from this one constant.

Left: every window by itself as filled points (exact), drawn batches as bars, the estimator that runs during training
as a band; both with their confidence interval. Right: quantiles over components of (Sigma_jj/g_j^2) / B_simple.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RUN = ["corpus", "lr", "batch_size", "beta1", "beta2", "seed"]
"""Columns that tell one run from another."""
ESTIMATE = ["b_simple_estimate", "b_simple_low", "b_simple_high", "level"]
QUANTILES = ["component_q05", "component_q25", "component_q50", "component_q75", "component_q95"]

FAR_UP = 1e12
"""Drawn in place of an infinite end, where |g|² cannot be told from zero."""
GREY = "0.45"
"""What stands for every run in the legend."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_noise_scale", description=__doc__)
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="written by train.noise_scale"
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="CSV",
        help="evaluations of runs that measured while they trained",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def draw_noise_scale(axis: "Axes", snapshots: "pd.DataFrame", evaluations: "pd.DataFrame", i: int) -> None:
    """Draw one run: points, bars and band.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    snapshots : pandas.DataFrame
        Rows of `train.noise_scale` of one run.
    evaluations : pandas.DataFrame
        Of the same run, with the columns `ESTIMATE`; may be empty.
    i : int
        Place of the run in colours and markers.
    """
    import numpy as np

    from analysis.drawing import style

    colour, marker = style.OKABE_ITO[i % 8], style.MARKERS[i % 8]
    rows = snapshots.sort_values("epoch")
    axis.plot(rows["epoch"], rows["b_simple"], marker=marker, color=colour, lw=0.9, ms=3.5, zorder=3)
    drawn = rows[rows["b_simple_estimate"].between(0, np.inf, inclusive="neither")]
    middle = drawn["b_simple_estimate"]
    bars = [middle - drawn["b_simple_low"], drawn["b_simple_high"].replace(np.inf, FAR_UP) - middle]
    axis.errorbar(drawn["epoch"], middle, bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=4.5)
    rows = evaluations.sort_values("epoch")
    low, high = rows["b_simple_low"].clip(lower=1 / FAR_UP), rows["b_simple_high"].replace(np.inf, FAR_UP)
    axis.fill_between(rows["epoch"], low, high, color=colour, alpha=0.15, lw=0)
    axis.plot(rows["epoch"], rows["b_simple_estimate"].replace(np.inf, np.nan), "--", color=colour, lw=0.9)


def draw_components(axis: "Axes", snapshots: "pd.DataFrame", i: int, shift: float) -> None:
    """Draw quantiles of (Sigma_jj/g_j²) / B_simple of one run: 5 to 95% thin, 25 to 75% thick, the median a marker.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    snapshots : pandas.DataFrame
        Rows of `train.noise_scale` of one run.
    i : int
        Place of the run in colours and markers.
    shift : float
        Moves the bars sideways, epochs.
    """
    from analysis.drawing import style

    colour, rows = style.OKABE_ITO[i % 8], snapshots.dropna(subset=["b_simple"])
    epoch = rows["epoch"] + shift
    q05, q25, q50, q75, q95 = (rows[name] / rows["b_simple"] for name in QUANTILES)
    axis.vlines(epoch, q05, q95, color=colour, lw=0.8)
    axis.vlines(epoch, q25, q75, color=colour, lw=2.6)
    axis.plot(epoch, q50, style.MARKERS[i % 8], color=colour, mfc="white", ms=4)


def label(key: tuple, keys: list[tuple]) -> str:
    """Name a run by its batch size and learning rate, and by the other columns of `RUN` in which runs differ."""
    run = dict(zip(RUN, key, strict=True))
    names = {"beta1": r"$\beta_1$", "beta2": r"$\beta_2$", "seed": "seed"}
    differ = [name for name in names if len({other[RUN.index(name)] for other in keys}) > 1]
    others = [f"{names[name]} = {run[name]:g}" for name in differ]
    return ", ".join([f"batch {run['batch_size']}", f"lr {run['lr']:.3g}", *others])


def make_legend(figure: "Figure", labels: list[str], level: float, estimated: bool) -> None:
    """Put below the panels: the runs, and how each kind of measurement is drawn.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    labels : list of str
        Of the runs.
    level : float
        Of the intervals.
    estimated : bool
        Whether a run measured while it trained.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from analysis.drawing import style

    looks = zip(style.OKABE_ITO, style.MARKERS, strict=True)
    entries = [
        (Line2D([], [], color=colour, marker=marker, lw=0.9, ms=3.5), text)
        for (colour, marker), text in zip(looks, labels, strict=False)
    ]
    entries.append((Line2D([], [], color=GREY, marker="o", lw=0.9, ms=3.5), "exact, every window"))
    bar = Line2D([], [], color=GREY, marker="_", ls="", ms=9)
    entries.append((bar, f"drawn batches, {level:.0%} interval"))
    if estimated:
        band = (Patch(color=GREY, alpha=0.25, lw=0), Line2D([], [], color=GREY, ls="--", lw=0.9))
        entries.append((band, f"while training, {level:.0%} interval"))
    entries.append((Line2D([], [], color="black", ls=":", lw=0.9), "one constant for all components"))
    handles, texts = zip(*entries, strict=True)
    figure.legend(handles, texts, loc="outside lower center", ncols=3, fontsize=7.5)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.as_written([*args.tables, *args.runs]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd

    from analysis.drawing import style
    from analysis.inputs import tables

    table = tables.read(args.tables, [*RUN, "epoch", "n_samples", "b_simple", *ESTIMATE, *QUANTILES])
    runs = tables.read(args.runs, [*RUN, "epoch", *ESTIMATE]) if args.runs else table.iloc[:0]
    if table["corpus"].nunique() != 1:
        raise InputError(f"the tables hold {table['corpus'].nunique()} corpora, allowed: one")
    seen = pd.concat([table["b_simple"], table["b_simple_estimate"], runs["b_simple_estimate"]])
    seen = seen[(seen > 0) & (seen < np.inf)]
    if seen.empty:
        raise InputError(f"{args.tables[0]}: holds no measurement, allowed: at least one finite noise scale")
    groups = dict(list(table.groupby(RUN, sort=True)))
    style.apply()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.3), width_ratios=[5, 4])
    epochs = np.sort(table["epoch"].unique())
    gap = np.diff(epochs).min() if len(epochs) > 1 else 1.0
    for i, (key, part) in enumerate(groups.items()):
        mine = (runs[RUN] == list(key)).all(axis=1)
        draw_noise_scale(left, part, runs[mine], i)
        draw_components(right, part, i, 0.6 * gap * ((i + 0.5) / len(groups) - 0.5))
    left.set(xlabel="epoch", ylabel=r"$B_{simple}$ (samples)", title="noise scale", yscale="log")
    left.set_ylim(seen.min() / 2, seen.max() * 2)
    right.axhline(1, color="black", ls=":", lw=0.9, zorder=0)
    right.set(yscale="log", xlabel="epoch", ylabel=r"$(\Sigma_{jj}\,/\,g_j^2)\;/\;B_{simple}$")
    if table["b_simple"].isna().all():  # nothing to draw, and no scale to take from it
        right.set_ylim(0.1, 10)
    right.set_title("quantiles 5, 25, 50, 75, 95%", fontsize=8)
    first = table.iloc[0]
    figure.suptitle(f"Transformer-XL on {first['corpus']}, {first['n_samples']} windows", fontsize=9)
    levels = pd.concat([table["level"], runs["level"]]).dropna()
    level = levels.iloc[0] if len(levels) else 0.95
    make_legend(figure, [label(key, list(groups)) for key in groups], level, bool(len(runs)))
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
