r"""Draw the measured best beta2 against batch size, with what the theory expects at the measured noise scale.

Bars: values that the runs cannot tell from the best (`analysis.best_betas`). Lines: the beta2 that maximises C_total at
the measured B_simple, in the limit of many steps and exactly at the end of the epoch of the minimum. Band: the critical
batch sizes from the smallest to the largest B_simple, of both (`analysis.reductions.best_beta2`).

B_simple is taken near the least validation perplexity (`analysis.reductions.noise_scales`).
"""

import argparse
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from analysis.reductions.best_beta2 import EXACT, LIMIT
from common.cli import Parser, allow_only, run
from common.files import write_json
from common.settings import BETA

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from analysis.reductions.noise_scales import NoiseScale

COLUMNS = ["lr", "batch_size", "status", "best_beta", "beta_low", "beta_high", "epoch", "n_windows"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_best_beta2", description=__doc__)
    parser.add_argument("--best", required=True, metavar="CSV", help="written by analysis.best_betas")
    parser.add_argument(
        "--noise-scale", nargs="*", default=[], metavar="CSV", help="written by train.noise_scale"
    )
    parser.add_argument(
        "--beta1", type=BETA, default=0.9, help="of the runs, for the theory: only with --noise-scale"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="JSON", help="also write noise scale and critical batch sizes")
    return parser


def draw_measured(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the best of each cell, its bar where there is one; a hollow mark below where nothing is measured."""
    import seaborn as sns

    from analysis.drawing import axes, style

    rates = sorted(table["lr"].unique(), reverse=True)
    palette, marks = style.colours(rates), style.markers(rates)
    beside = {rate: 1.05 ** (i - (len(rates) - 1) / 2) for i, rate in enumerate(rates)}
    done = table.dropna(subset="best_beta")
    ends = {end: axes.memory(done[f"beta_{end}"].fillna(done["best_beta"])) for end in ("low", "high")}
    place = done["batch_size"] * done["lr"].map(beside)
    done = done.assign(place=place, memory=axes.memory(done["best_beta"]), **ends)
    for rate, part in done.groupby("lr"):
        axes.bars(axis, part, "place", ("low", "high"), palette[rate])
    look = {"hue": "lr", "style": "lr", "palette": palette, "markers": marks, "legend": False, "ax": axis}
    if len(done):
        sns.scatterplot(done, x="place", y="memory", s=28, zorder=3, **look)
    for i, rate in enumerate(rates):
        rest = table[(table["lr"] == rate) & table["best_beta"].isna()]["batch_size"]
        below: dict[str, Any] = {
            "mfc": "none",
            "color": palette[rate],
            "mew": 0.7,
            "transform": axis.get_xaxis_transform(),
        }
        axis.plot(rest * beside[rate], [0.03 + 0.04 * i] * len(rest), marks[rate], **below)
        axis.plot([], [], marks[rate], color=palette[rate], label=f"measured, lr {rate:.3g}")


def draw_theory(axis: "Axes", summary: dict, curves: "pd.DataFrame") -> None:
    """Draw what both theories ask for, and the band of critical batch sizes.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    summary : dict
    curves : pandas.DataFrame
        Of `analysis.reductions.best_beta2.expected`.
    """
    import seaborn as sns

    from analysis.drawing import axes

    curves = curves.assign(memory=axes.memory(curves["beta2"]))
    for theory, line, colour, width in ((EXACT, "-", "0.65", 3), (LIMIT, "--", "black", 1)):
        look = {"drawstyle": "steps-mid", "linestyle": line, "color": colour, "lw": width, "zorder": 1}
        part = curves[curves["theory"] == theory]
        sns.lineplot(part, x="batch_size", y="memory", errorbar=None, legend=False, ax=axis, **look)
    first = curves.loc[curves["batch_size"].idxmin()]
    said = f"largest $C_{{total}}$: limit (dashed), exact, epoch {summary['n_epochs']} (grey)"
    place: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": "0.3"}
    axis.annotate(said, (first["batch_size"], first["memory"]), (0, 5), **place)
    found = [size for sizes in summary["critical"].values() for size in sizes if size]
    if found:
        axis.axvspan(min(found), max(found), color="0.92", zorder=0)
        place |= {"xycoords": ("data", "axes fraction"), "ha": "right"}
        axis.annotate("critical batch size", (min(found), 0), (-4, 5), **place)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    allow_only(args, ["beta1"], "noise_scale" in args.given, "with --noise-scale")
    from analysis.inputs import tables

    with tables.refuse_malformed([args.best, *args.noise_scale]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import axes, style
    from analysis.inputs import tables
    from analysis.reductions import best_beta2, noise_scales

    table = tables.read([args.best], [*COLUMNS, "swept"])
    if (table["swept"] != "beta2").any():
        raise InputError(f"{args.best}: sweeps {table['swept'].iloc[0]}, allowed: beta2")
    noise = noise_scales.near_minimum(noise_scales.read(args.noise_scale)) if args.noise_scale else None
    summary: dict[str, Any] = {}
    style.apply()
    figure, axis = plt.subplots(figsize=(style.WIDTH, 2.7))
    axis.set(xscale="log", yscale="log", title=_title(noise))
    if noise and table["best_beta"].notna().any():
        summary, curves = best_beta2.expected(table, noise, args.beta1)
        draw_theory(axis, summary, curves)
    draw_measured(axis, table)
    axis.set_ylim(1.6 if table["best_beta"].isna().any() else 3.5, 2000)
    ticks = sorted(table["batch_size"].unique())
    full = table["n_windows"].max()
    labels = [f"full\n({tick:g})" if tick == full else f"{tick:g}" for tick in ticks]
    axes.counts_axis(axis, ticks, labels, most=10)
    axes.beta_axis(axis, "beta2", "y", label=r"best $\beta_2$")
    axis.set_xlabel("batch size (windows)")
    handles, labels = axis.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(handles)))
    style.save(figure, args.out)
    if args.summary:
        write_json(args.summary, summary)


def _title(noise: "NoiseScale | None") -> str:
    if noise is None:
        return r"$B_{simple}$ not yet measured"
    return rf"noise scale $B_{{simple}}$ = {noise.middle:.3g} ({noise.low:.3g} to {noise.high:.3g}) windows"


if __name__ == "__main__":
    run(main)
