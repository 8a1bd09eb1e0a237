"""Draw C_total against beta2 for the batch sizes of an experiment, and where its monotonicity turns.

Upper panels: the limit dashed, the exact value at the end of some epochs solid. Lower panels: the batch sizes between
which C_total is not monotone, divided by B_simple.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.settings import COUNT, POSITIVE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TICKS = {"0.8": 5, "0.9": 10, "0.99": 100, "0.999": 1000}
"""Labels of the axis of beta2 and their places, 1/(1 - beta2)."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_turning", description=__doc__.split("\n\n")[0])
    parser.add_argument("--map", required=True, metavar="CSV", help="written by sim.turning --out")
    parser.add_argument(
        "--turning", required=True, metavar="CSV", help="written by sim.turning --turning-out"
    )
    parser.add_argument("--noise-scale", type=POSITIVE, default=300, help="B_simple of the upper panels")
    parser.add_argument("--n-epochs", type=COUNT, nargs="+", default=[1, 5, 50], help="curves of a panel")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def plot_c_total(axis: "Axes", part: "pd.DataFrame", n_epochs: list[int]) -> None:
    """Draw one batch size: the limit dashed, a line for each number of epochs.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    part : pandas.DataFrame
        Rows of `sim.turning` of one batch size and noise scale, beta2 swept.
    n_epochs : list of int
    """
    from analysis import style

    for i, epochs in enumerate(n_epochs):
        rows = part[part["n_epochs"] == epochs]
        memory = 1 / (1 - rows["beta2"])
        if i == 0:
            axis.plot(memory, rows["c_total_limit"], "--", color="black", zorder=3)
        axis.plot(memory, rows["c_total_exact"], color=style.OKABE_ITO[i])
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(-2000, 20000)
    axis.set_yticks([-1000, -10, 0, 10, 1000])
    axis.set_xticks(list(TICKS.values())[1:], list(TICKS)[1:])
    axis.minorticks_off()
    first = part.iloc[0]
    batches = f"m={first['n_batches']:.0f}" if first["lam"] > 0 else "full batch"
    axis.set_title(rf"b={first['batch_size']:.0f}, {batches}, $\lambda$={first['lam']:.2g}", fontsize=7.5)


def plot_turning(axis: "Axes", part: "pd.DataFrame", n_epochs: list[int], which: str) -> None:
    """Draw the range of batch sizes in which C_total is not monotone against B_simple, relative to B_simple.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    part : pandas.DataFrame
        Turning points of `sim.turning` with one beta swept.
    n_epochs : list of int
    which : {"beta1", "beta2"}
        The beta that is swept.
    """
    from analysis import style

    series = [("limit", n_epochs[0], "black", "--", "n → ∞ (Prop. 3.3)")]
    for i, epochs in enumerate(n_epochs):
        series.append(("exact", epochs, style.OKABE_ITO[i], "-", f"exact, epoch {epochs}"))
    for i, (theory, epochs, colour, line, label) in enumerate(series):
        rows = part[part["n_epochs"] == epochs]
        noise_scale = rows["noise_scale"]
        shifted = noise_scale * 1.06 ** (i - (len(series) - 1) / 2)
        after, at = rows[f"turns_after_{theory}"] / noise_scale, rows[f"turned_at_{theory}"] / noise_scale
        axis.vlines(shifted, after, at, color=colour, lw=1.4)
        axis.plot(shifted, after, style.MARKERS[i], color=colour, ms=3.5)
        axis.plot(shifted, at, style.MARKERS[i], color=colour, ms=3.5, mfc="white")
        axis.plot(
            [], [], line, marker=style.MARKERS[i], color=colour, ms=3.5, label=label
        )  # of both kinds of panel
    axis.set_xscale("log")
    ticks = sorted(part["noise_scale"].unique())
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    beta = which.replace("beta", r"$\beta_") + "$"
    axis.set(xlabel=r"$B_{simple}$ (samples)", title=f"{beta} swept on [0.9, 0.999]")


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written([args.map, args.turning]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis import style, tables

    columns = [
        "swept_beta",
        "batch_size",
        "n_batches",
        "noise_scale",
        "lam",
        "n_epochs",
        "beta2",
        "c_total_exact",
    ]
    rows = tables.read([args.map], [*columns, "c_total_limit"])
    turning = tables.read([args.turning], ["swept_beta", "noise_scale", "n_epochs", "turns_after_exact"])
    rows = rows[(rows["swept_beta"] == "beta2") & (rows["noise_scale"] == args.noise_scale)]
    missing = set(args.n_epochs) - set(rows["n_epochs"])
    if missing:
        raise InputError(
            f"{args.map}: has no rows with beta2 swept, noise_scale {args.noise_scale:g} and "
            f"n_epochs {min(missing)}"
        )
    style.apply()
    groups = list(rows.groupby("batch_size"))
    n_rows = -(-len(groups) // 4)
    figure = plt.figure(figsize=(style.WIDTH, 1.55 * n_rows + 2.6))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.55 * n_rows + 0.35, 2.25])
    axes = upper.subplots(n_rows, 4, sharex=True, sharey=True, squeeze=False)
    for axis, (_, part) in zip(axes.flat, groups, strict=False):
        plot_c_total(axis, part, args.n_epochs)
    for axis in axes.flat[len(groups) :]:
        axis.set_axis_off()
    upper.supxlabel(r"$\beta_2$", fontsize=9)
    upper.supylabel(rf"$C_{{total}}$  ($B_{{simple}}$ = {args.noise_scale:g})", fontsize=9)
    swept = sorted(turning["swept_beta"].unique(), reverse=True)
    axes = lower.subplots(1, len(swept), squeeze=False)[0]
    for axis, which in zip(axes, swept, strict=True):
        plot_turning(axis, turning[turning["swept_beta"] == which], args.n_epochs, which)
    axes[0].set_ylabel("turning batch size\n/ $B_{simple}$")
    handles, labels = axes[0].get_legend_handles_labels()
    meaning = "filled: largest batch size that acts as a small one;  open: smallest that acts as a large one"
    lower.legend(
        handles, labels, loc="outside lower center", ncols=len(handles), title=meaning, title_fontsize=8
    )
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
