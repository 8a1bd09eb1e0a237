"""Draw the noise scale B_simple along training (Figure 4), and how far single components are from this one constant.

Left: every window by itself as filled points (exact), drawn batches as bars, the estimator that runs during training
as a band; both with their confidence interval. Right: quantiles over components of (Sigma_jj/g_j^2) / B_simple.
"""

import argparse
from typing import TYPE_CHECKING, Any

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


def draw_noise_scale(
    axis: "Axes", snapshots: "pd.DataFrame", evaluations: "pd.DataFrame", runs: list[str]
) -> None:
    """Draw runs: points, bars and bands.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        With its limits.
    snapshots : pandas.DataFrame
        Rows of `train.noise_scale`, with a column `run`.
    evaluations : pandas.DataFrame
        Of the same runs, with the columns `ESTIMATE`; may be empty.
    runs : list of str
        In the order of colours and markers.
    """
    import numpy as np
    import seaborn as sns

    from analysis.drawing import axes, style

    palette = style.colours(runs)
    look = {
        "hue": "run",
        "hue_order": runs,
        "palette": palette,
        "legend": False,
        "errorbar": None,
        "ax": axis,
    }
    exact = snapshots.dropna(subset="b_simple")
    if len(exact):
        marks = {"style": "run", "style_order": runs, "markers": style.markers(runs), "dashes": False}
        sns.lineplot(exact, x="epoch", y="b_simple", lw=0.9, zorder=3, **marks, **look, **style.FLAT)
    ends = {"b_simple_high": {np.inf: FAR_UP}}
    drawn = snapshots[snapshots["b_simple_estimate"].between(0, np.inf, inclusive="neither")].replace(ends)
    for name, rows in drawn.groupby("run"):
        middle = rows["b_simple_estimate"]
        ends_of_bars = [middle - rows["b_simple_low"], rows["b_simple_high"] - middle]
        axis.errorbar(
            rows["epoch"], middle, ends_of_bars, fmt="none", ecolor=palette[name], elinewidth=0.8, capsize=4.5
        )
    for name, rows in evaluations.replace(ends).groupby("run"):
        rows = rows.sort_values("epoch")
        low = rows["b_simple_low"].clip(lower=1 / FAR_UP)
        axis.fill_between(rows["epoch"], low, rows["b_simple_high"], color=palette[name], alpha=0.15, lw=0)
    finite = evaluations[np.isfinite(evaluations["b_simple_estimate"])]
    if len(finite):
        sns.lineplot(finite, x="epoch", y="b_simple_estimate", linestyle="--", lw=0.9, **look)
    axes.log_axis(axis)


def draw_components(axis: "Axes", snapshots: "pd.DataFrame", runs: list[str], gap: float) -> None:
    """Draw quantiles of (Sigma_jj/g_j²) / B_simple: 5 to 95% thin, 25 to 75% thick, the median a marker.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    snapshots : pandas.DataFrame
        Rows of `train.noise_scale`, with a column `run`.
    runs : list of str
        In the order of colours and markers.
    gap : float
        Least distance of two measurements of a run, epochs.
    """
    import seaborn as sns

    from analysis.drawing import axes, style

    palette = style.colours(runs)
    shift = {run: 0.6 * gap * ((i + 0.5) / len(runs) - 0.5) for i, run in enumerate(runs)}
    rows = snapshots.dropna(subset="b_simple")
    rows = rows.assign(
        place=rows["epoch"] + rows["run"].map(shift), middle=rows[QUANTILES[2]] / rows["b_simple"]
    )
    for run_name, part in rows.groupby("run"):
        q05, q25, _, q75, q95 = (part[name] / part["b_simple"] for name in QUANTILES)
        axis.vlines(part["place"], q05, q95, color=palette[run_name], lw=0.8)
        axis.vlines(part["place"], q25, q75, color=palette[run_name], lw=2.6)
    if len(rows):
        look = {"hue": "run", "style": "run", "palette": palette, "markers": style.markers(runs)}
        sns.scatterplot(rows, x="place", y="middle", s=26, zorder=3, legend=False, ax=axis, **look)
    axes.log_axis(axis)


def label(key: tuple, keys: list[tuple]) -> str:
    """Name a run by its batch size and learning rate, and by the other columns of `RUN` in which runs differ."""
    run = dict(zip(RUN, key, strict=True))
    names = {"beta1": r"$\beta_1$", "beta2": r"$\beta_2$", "seed": "seed"}
    differ = [name for name in names if len({other[RUN.index(name)] for other in keys}) > 1]
    others = [f"{names[name]} = {run[name]:g}" for name in differ]
    return ", ".join([f"batch {run['batch_size']}", f"lr {run['lr']:.3g}", *others])


def make_legend(figure: "Figure", runs: list[str], level: float, drawn: bool, estimated: bool) -> None:
    """Put below the panels: the runs, and how each kind of measurement is drawn.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    runs : list of str
        Their names.
    level : float
        Of the intervals.
    drawn, estimated : bool
        Whether batches were drawn; whether a run measured while it trained.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from analysis.drawing import style

    palette, marks = style.colours(runs), style.markers(runs)
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=palette[run], marker=marks[run], lw=0.9, ms=3.5), run) for run in runs
    ]
    entries.append((Line2D([], [], color=GREY, marker="o", lw=0.9, ms=3.5), "exact, every window"))
    if drawn:
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

    with tables.refuse_malformed([*args.tables, *args.runs]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd

    from analysis.drawing import style
    from analysis.inputs import tables, titles

    table = tables.read(args.tables, [*RUN, "epoch", "n_samples", "b_simple", *ESTIMATE, *QUANTILES])
    runs = tables.read(args.runs, [*RUN, "epoch", *ESTIMATE]) if args.runs else table.iloc[:0]
    if table["corpus"].nunique() != 1:
        raise InputError(f"the tables hold {table['corpus'].nunique()} corpora, allowed: one")
    seen = pd.concat([table["b_simple"], table["b_simple_estimate"], runs["b_simple_estimate"]])
    seen = seen[(seen > 0) & (seen < np.inf)]
    if seen.empty:
        raise InputError(f"{args.tables[0]}: holds no measurement, allowed: at least one finite noise scale")
    keys = [key for key, _ in table.groupby(RUN, sort=True)]
    names = {key: label(key, keys) for key in keys}
    table, runs = (
        rows.assign(run=[names.get(key) for key in rows[RUN].itertuples(index=False, name=None)])
        for rows in (table, runs)
    )
    style.apply()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.3), width_ratios=[5, 4])
    epochs = np.sort(table["epoch"].unique())
    gap = np.diff(epochs).min() if len(epochs) > 1 else 1.0
    left.set(yscale="log", ylim=(seen.min() / 2, seen.max() * 2))
    draw_noise_scale(left, table, runs.dropna(subset="run"), list(names.values()))
    draw_components(right, table, list(names.values()), gap)
    left.set(xlabel="epoch", ylabel=r"$B_{simple}$ (samples)", title="noise scale of the gradient")
    right.axhline(1, color="black", ls=":", lw=0.9, zorder=0)
    right.set(xlabel="epoch", ylabel=r"$(\Sigma_{jj}\,/\,g_j^2)\;/\;B_{simple}$")
    if table["b_simple"].isna().all():  # nothing to draw, and no scale to take from it
        right.set_ylim(0.1, 10)
    right.set_title("single components: quantiles\n5, 25, 50, 75, 95 %", fontsize=8)
    first = table.iloc[0]
    corpus = titles.CORPORA.get(first["corpus"], first["corpus"])
    figure.suptitle(f"Transformer-XL on {corpus}, {first['n_samples']} windows", fontsize=9)
    levels = pd.concat([table["level"], runs["level"]]).dropna()
    level = levels.iloc[0] if len(levels) else 0.95
    drawn = bool(table["b_simple_estimate"].notna().any())
    make_legend(figure, list(names.values()), level, drawn, bool(len(runs)))
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
