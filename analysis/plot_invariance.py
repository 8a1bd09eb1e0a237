"""Draw whether training depends on the batch size: batch-size invariant Adam beside Adam, three panels.

Left: distance between trajectories against the learning rate, with the computed limit. Middle: spread over batch sizes
of the training loss against lr0. Right: how strongly |g|_1 is regularised, lr C_total / lr0, as the batch grows.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from analysis.invariance_summary import RULES, scaled_c_total, summarize
from common.cli import Parser, run
from common.files import write_json
from common.settings import BETA, NONNEGATIVE, Number
from sim.invariance import BREAK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CASES = {
    "least-squares-quiet": "least squares",
    "least-squares-even": "least squares",
    "least-squares-loud": "least squares",
    "cnn-even": "CNN",
    "cnn-loud": "CNN",
}
PROBLEMS = {"least-squares": ("least squares", "-"), "cnn": ("CNN", "--")}
SLOPES = ("case", "lam", "rule", "kappa", "lr", "distance", "limit", "slope", "verdict")
SPREAD = ("problem", "rule", "lr0", "batch_size", "relative", "spread_accuracy", "n_seeds")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_invariance", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--slopes", required=True, metavar="CSV", help="written by sim.invariance --out")
    add("--spread", required=True, metavar="CSV", help="written by sim.invariance --spread-out")
    add("--beta1", type=BETA, default=0.99, help="right panel: at one micro-batch a batch")
    add("--beta2", type=BETA, default=0.999, help="likewise")
    add("--lam-micro", type=NONNEGATIVE, nargs=2, default=[0.25, 2.0], help="right panel: of a micro-batch")
    add(
        "--max-kappa",
        type=Number(int, 2, 4096),
        default=64,
        help="right panel: largest batch in micro-batches",
    )
    add("--summary", metavar="JSON", help="also write the numbers that the article quotes")
    add("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def draw_slopes(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw distance against learning rate of the largest kappa; limits dotted.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.invariance --out`.
    """
    from analysis import style

    kappa = table["kappa"].max()
    rows = table[table["kappa"] == kappa]
    for case, marker in zip(known_cases(table), style.MARKERS, strict=False):
        for rule, color in (("invariant", style.OKABE_ITO[0]), ("square-root", style.OKABE_ITO[1])):
            part = rows[(rows["case"] == case) & (rows["rule"] == rule)]
            axis.plot(part["lr"], part["distance"], marker, color=color, mfc="white", ms=4)
            if rule == "square-root":
                axis.axhline(part["limit"].iloc[0], color=color, lw=0.8, ls=":", zorder=0)
    lr = table["lr"].agg(["min", "max"]).to_numpy()
    highest = rows[rows["rule"] == "invariant"]["distance"].max()
    axis.plot(lr, 2 * highest * lr / lr.max(), color="0.5", lw=0.8)
    axis.text(lr[0], 8 * highest * lr[0] / lr[1], "slope 1", color="0.4", fontsize=7)
    axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="largest distance / path")
    axis.set_title(rf"from $\kappa$ = {kappa:.0f} to $\kappa$ = 1")


def known_cases(table: "pd.DataFrame") -> list[str]:
    """Return the cases of a table in the order of `CASES`."""
    return [case for case in CASES if case in set(table["case"])]


def draw_spread(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the relative spread over batch sizes against lr0.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.invariance --spread-out`.
    """
    from analysis import style

    for rule, marker, color in zip(RULES, style.MARKERS, style.OKABE_ITO, strict=False):
        for problem, (name, line) in PROBLEMS.items():
            rows = table[(table["rule"] == rule) & (table["problem"] == problem)].drop_duplicates("lr0")
            axis.plot(rows["lr0"], rows["relative"], line, marker=marker, color=color, ms=3, lw=1)
            if rule == "invariant":
                axis.plot([], [], line, color="0.3", lw=1, label=name)
    axis.axhline(BREAK, color="0.6", lw=0.8, zorder=0)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel=r"$lr_0$, at one micro-batch",
        ylabel="spread of the loss / its fall",
    )
    sizes = sorted(table["batch_size"].unique())
    axis.set_title(f"B = {', '.join(f'{size:.0f}' for size in sizes)}")
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.22), fontsize=7.5, ncols=2)


def draw_c_total(axis: "Axes", args: argparse.Namespace) -> None:
    """Draw lr C_total / lr0 against kappa for every rule and both noise levels."""
    import numpy as np

    from analysis import style

    kappa = np.geomspace(1, args.max_kappa, 200)
    marked = 2.0 ** np.arange(np.log2(args.max_kappa) + 1e-9)
    for lam, line in zip(args.lam_micro, ("--", "-"), strict=True):
        for rule, marker, color in zip(RULES, style.MARKERS, style.OKABE_ITO, strict=False):
            of = (args.beta1, args.beta2, lam)
            axis.plot(kappa, scaled_c_total(rule, kappa, *of), line, color=color, lw=1.2)
            axis.plot(marked, scaled_c_total(rule, marked, *of), marker, color=color, ms=3)
        axis.plot([], [], line, color="0.3", lw=1, label=rf"$\lambda$ = {lam:g}")
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(marked[::2], [f"{tick:g}" for tick in marked[::2]])
    axis.set(xlabel=r"micro-batches a batch, $\kappa$", ylabel=r"$lr\ C_{total}\,/\,lr_0$")
    axis.set_title(r"regularisation of $|g|_1$")
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.22), fontsize=7.5, ncols=2)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written([args.slopes, args.spread]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    from analysis import style, tables

    if args.max_kappa * (1 - min(args.beta1, args.beta2)) > 1:
        largest = int(1 / (1 - min(args.beta1, args.beta2)) + 1e-9)
        raise InputError(f"--max-kappa is {args.max_kappa}, allowed: at most {largest}, where a beta is 0")
    slopes, spread = tables.read([args.slopes], SLOPES), tables.read([args.spread], SPREAD)
    summary = summarize(slopes, spread, args) if args.summary else None
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.WIDTH, 3.3))
    draw_slopes(axes[0], slopes)
    draw_spread(axes[1], spread)
    draw_c_total(axes[2], args)
    handles = [
        Line2D([], [], color=color, marker=marker, ms=4, label=label)
        for label, marker, color in zip(RULES.values(), style.MARKERS, style.OKABE_ITO, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    lams = slopes.drop_duplicates("case").set_index("case")["lam"]
    handles = [
        Line2D(
            [],
            [],
            color="0.3",
            ls="",
            marker=marker,
            mfc="white",
            label=rf"{CASES[case]}, $\lambda$ = {lams[case]:.2g}",
        )
        for case, marker in zip(known_cases(slopes), style.MARKERS, strict=False)
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=len(handles), fontsize=7, handletextpad=0.1, columnspacing=1,
        title="left panel", title_fontsize=7, alignment="left",
    )  # fmt: skip
    style.save(figure, args.out)
    if args.summary:
        write_json(args.summary, summary)


if __name__ == "__main__":
    run(main)
