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

LIMIT = "limit of many steps"
MAX_PANELS = 4
"""Most batch sizes that are drawn."""


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
    import seaborn as sns

    from analysis.drawing import axes, style

    part = part.assign(memory=axes.memory(part["beta2"]))
    exact = part[part["n_epochs"].isin(n_epochs)]
    look = {"hue": "n_epochs", "palette": style.colours(n_epochs), "errorbar": None, "legend": False}
    sns.lineplot(exact, x="memory", y="c_total_exact", ax=axis, **look)
    limit = exact[exact["n_epochs"] == n_epochs[0]]
    axis.plot(limit["memory"], limit["c_total_limit"], "--", color="black", zorder=3)
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(-2000, 20000)
    axis.set_yticks([-1000, -10, 0, 10, 1000])
    axis.set_xscale("log")
    axes.beta_axis(axis, "beta2", betas=(0.9, 0.99, 0.999), label="")
    axes.no_minor_ticks(axis, "y")
    first = part.iloc[0]
    n = f"{first['n_batches']:.0f}"
    batches = "full batch" if first["lam"] == 0 else f"{n} batches" if n != "1" else "1 batch"
    axis.set_title(
        rf"$b$ = {first['batch_size']:.0f}, $\lambda$ = {first['lam']:.2g}" + f"\n{batches}", fontsize=8
    )
    axis.set_ylabel("")


def turning_ranges(part: "pd.DataFrame", n_epochs: list[int]) -> "pd.DataFrame":
    """Put the turning batch sizes of the limit and of each number of epochs below each other, relative to B_simple.

    Parameters
    ----------
    part : pandas.DataFrame
        Turning points of `sim.turning` with one beta swept.
    n_epochs : list of int

    Returns
    -------
    pandas.DataFrame
        noise_scale; theory, a name; after, at: `turns_after` and `turned_at` over the noise scale.
    """
    import pandas as pd

    series = [("limit", n_epochs[0], LIMIT)]
    series += [("exact", epochs, f"exact, epoch {epochs}") for epochs in n_epochs]
    frames = []
    for theory, epochs, name in series:
        rows = part[part["n_epochs"] == epochs]
        ends = {
            end: rows[f"{column}_{theory}"] / rows["noise_scale"]
            for end, column in (("after", "turns_after"), ("at", "turned_at"))
        }
        frames.append(pd.DataFrame({"noise_scale": rows["noise_scale"], "theory": name, **ends}))
    return pd.concat(frames, ignore_index=True)


def plot_turning(axis: "Axes", rows: "pd.DataFrame", beta: str) -> None:
    """Draw the range of batch sizes in which C_total is not monotone against B_simple, relative to B_simple.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : pandas.DataFrame
        See `turning_ranges`.
    beta : {"beta1", "beta2"}
        The beta that is swept.
    """
    import seaborn as sns

    from analysis.drawing import axes, style

    names = list(dict.fromkeys(rows["theory"]))
    palette = {names[0]: "black"} | style.colours(names[1:])
    shift = dict(zip(names, (1.06 ** (i - (len(names) - 1) / 2) for i in range(len(names))), strict=True))
    rows = rows.assign(place=rows["noise_scale"] * rows["theory"].map(shift))
    for name, part in rows.groupby("theory", sort=False):
        axes.bars(axis, part, "place", ("after", "at"), palette[name], capsize=0, elinewidth=1.4)
    marks = style.markers(names)
    look = {"x": "place", "style": "theory", "markers": marks, "ax": axis, "legend": False, "zorder": 3}
    sns.scatterplot(rows, y="after", hue="theory", palette=palette, s=16, **look)
    for name, part in rows.groupby("theory", sort=False):
        axis.plot(part["place"], part["at"], marks[name], color=palette[name], ms=4, mfc="white", zorder=4)
    ticks = sorted(rows["noise_scale"].unique())
    axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    axes.counts_axis(axis, ticks)
    axis.set(xlabel=r"$B_{simple}$ (samples)", ylabel="")
    axis.set_title(rf"$\beta_{beta[-1]}$ swept on [0.9, 0.999]")


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed([args.map, args.turning]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    from analysis.drawing import style
    from analysis.inputs import tables

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
    if len(groups) > MAX_PANELS:  # from the smallest to the largest, evenly
        groups = [groups[round(i * (len(groups) - 1) / (MAX_PANELS - 1))] for i in range(MAX_PANELS)]
    n_columns = min(4, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = plt.figure(figsize=(style.WIDTH, 1.6 * n_rows + 2.7))
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.6 * n_rows + 0.35, 2.55]).flat
    axes = upper.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for axis, (_, part) in zip(axes.flat, groups, strict=False):
        plot_c_total(axis, part, args.n_epochs)
    for axis in axes.flat[len(groups) - n_columns : len(groups)]:
        axis.tick_params("x", labelbottom=True)  # the lowest of its column, not always in the last row
    for axis in axes.flat[len(groups) :]:
        axis.set_axis_off()
    upper.supxlabel(r"$\beta_2$", fontsize=9)
    upper.supylabel("$C_{total}$", fontsize=9)
    swept = sorted(turning["swept_beta"].unique(), reverse=True)
    axes = lower.subplots(1, len(swept), squeeze=False)[0]
    for axis, beta in zip(axes, swept, strict=True):
        ranges = turning_ranges(turning[turning["swept_beta"] == beta], args.n_epochs)
        plot_turning(axis, ranges, beta)
    axes[0].set_ylabel("turning batch size\n/ $B_{simple}$")
    names = list(dict.fromkeys(ranges["theory"]))
    palette, marks = {names[0]: "black"} | style.colours(names[1:]), style.markers(names)
    handles = [
        Line2D([], [], ls="--" if name == LIMIT else "-", color=palette[name], marker=marks[name], label=name)
        for name in names
    ]
    lower.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
