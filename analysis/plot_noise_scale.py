"""Draw the noise scale B_simple along training (Figure 4), and how far single components are from this one constant.

Left: every window by itself as filled points (exact), drawn batches as bars, the estimator that runs during training
as a band; both with their confidence interval. Right: quantiles over components of (Sigma_jj/g_j^2) / B_simple.
"""

import argparse
from typing import TYPE_CHECKING

from sim.records import InputError, Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RUN = ["corpus", "lr", "batch_size", "beta1", "beta2", "seed"]
"""Columns that tell one run from another."""
ESTIMATE = ["b_simple_estimate", "b_simple_low", "b_simple_high", "level"]
QUANTILES = ["component_q05", "component_q25", "component_q50", "component_q75", "component_q95"]


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

    from analysis import style

    colour, marker = style.OKABE_ITO[i % 8], style.MARKERS[i % 8]
    rows = snapshots.sort_values("epoch")
    axis.plot(rows["epoch"], rows["b_simple"], marker=marker, color=colour, lw=0.9, zorder=3)
    drawn = rows[rows["b_simple_estimate"].notna()]
    top = drawn["b_simple_high"].replace(np.inf, 1e300)  # where |g|² cannot be told from zero
    axis.vlines(drawn["epoch"], drawn["b_simple_low"].clip(lower=1e-3), top, color=colour, lw=3, alpha=0.45)
    rows = evaluations.sort_values("epoch")
    low, high = rows["b_simple_low"].clip(lower=1e-3), rows["b_simple_high"].replace(np.inf, 1e300)
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
    from analysis import style

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


def make_legend(figure, handles, labels, level: float, estimated: bool) -> None:
    """Put the runs, and what is drawn how, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grey = "0.45"
    kinds = [
        (Line2D([], [], color=grey, marker="o", lw=0.9), "exact, every window"),
        (Line2D([], [], color=grey, lw=3, alpha=0.45), f"drawn batches, {level:.0%} interval"),
    ]
    if estimated:
        band = (Patch(color=grey, alpha=0.25, lw=0), Line2D([], [], color=grey, ls="--", lw=0.9))
        kinds.append((band, f"while training, {level:.0%} interval"))
    all_handles = [*handles, *(handle for handle, _ in kinds)]
    all_labels = [*labels, *(text for _, text in kinds)]
    figure.legend(all_handles, all_labels, loc="outside lower center", ncols=3, fontsize=7.5)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.lines import Line2D

    from analysis import style, tables

    table = tables.read(args.tables, [*RUN, "epoch", "b_simple", *ESTIMATE, *QUANTILES])
    runs = tables.read(args.runs, [*RUN, "epoch", *ESTIMATE]) if args.runs else table.iloc[:0]
    if table["corpus"].nunique() != 1:
        raise InputError(f"the tables hold {table['corpus'].nunique()} corpora, allowed: one")
    groups = {key: part for key, part in table.groupby(RUN, sort=True)}
    style.apply()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 3.2), gridspec_kw={"width_ratios": [3, 2]}
    )
    epochs = np.sort(table["epoch"].unique())
    gap = np.diff(epochs).min() if len(epochs) > 1 else 1.0
    handles = []
    for i, (key, part) in enumerate(groups.items()):
        mine = (runs[RUN] == list(key)).all(axis=1)
        draw_noise_scale(left, part, runs[mine], i)
        draw_components(right, part, i, 0.6 * gap * ((i + 0.5) / len(groups) - 0.5))
        handles.append(Line2D([], [], color=style.OKABE_ITO[i % 8], marker=style.MARKERS[i % 8], lw=0.9))
    exact = table["b_simple"].to_numpy()
    seen = np.concatenate([exact, table["b_simple_estimate"], runs["b_simple_estimate"]])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    left.set(yscale="log", ylim=(seen.min() / 2, seen.max() * 2))
    left.set(xlabel="epoch", ylabel=r"$B_{simple}$ (samples)", title="noise scale")
    right.axhline(1, color="black", ls="--", lw=0.8, zorder=0)
    right.set(yscale="log", xlabel="epoch", ylabel=r"$(\Sigma_{jj}\,/\,g_j^2)\;/\;B_{simple}$")
    right.set_title("components: median, 25–75%, 5–95%")
    right.annotate(
        "one constant", (0.98, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7
    )
    figure.suptitle(
        f"Transformer-XL on {table['corpus'].iloc[0]}, n = {table['n_samples'].iloc[0]} windows", fontsize=9
    )
    labels = [label(key, list(groups)) for key in groups]
    levels = [*table["level"].dropna(), *runs["level"].dropna()]
    make_legend(figure, handles, labels, levels[0] if levels else 0.95, bool(len(runs)))
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
