"""Draw whether training depends on the batch size: batch-size invariant Adam beside Adam, three panels.

Left: distance between trajectories against the learning rate, with the computed limit. Middle: spread over batch sizes
of the training loss against lr0. Right: how strongly |g|_1 is regularised, lr C_total / lr0, as the batch grows.
"""

import argparse
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from analysis.inputs import titles
from analysis.reductions.invariance import RULES, scaled_c_total, summarize
from common.cli import Parser, run
from common.files import write_json
from common.settings import BETA, NONNEGATIVE, Number
from sim.batch_invariance.cases import BREAK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SLOPES = ("case", "problem", "lam", "rule", "kappa", "lr", "distance", "limit", "slope", "verdict")
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
    """Draw distance against learning rate of the largest kappa, a marker a case; limits dotted.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.invariance --out`.
    """
    import seaborn as sns

    from analysis.drawing import axes, style

    kappa = table["kappa"].max()
    rows = table[table["kappa"] == kappa]
    palette = style.colours(RULES)
    cases = list(dict.fromkeys(rows.sort_values(["problem", "lam"], ascending=[False, True])["case"]))
    drawn = rows[rows["rule"].isin(("invariant", "square-root"))]
    look: dict[str, Any] = {"hue": "rule", "style": "case", "palette": palette}
    look |= {"markers": style.markers(cases), "style_order": cases}
    axis.set_yscale("log")
    axes.log_span(axis, drawn["lr"])
    sns.scatterplot(drawn, x="lr", y="distance", s=22, legend=False, ax=axis, **look)
    for limit in drawn[drawn["rule"] == "square-root"].drop_duplicates("case")["limit"]:
        axis.axhline(limit, color=palette["square-root"], lw=0.8, ls=":", zorder=0)
    lr = table["lr"].agg(["min", "max"]).to_numpy()
    lowest = rows[rows["rule"] == "invariant"]["distance"].min() / 3
    axis.plot(lr, lowest * lr / lr[0], color="0.5", lw=0.8)
    middle = lr.prod() ** 0.5
    place: dict[str, Any] = {"textcoords": "offset points", "color": "0.4", "fontsize": 7, "va": "top"}
    axis.annotate("slope 1", (middle, lowest * middle / lr[0]), (3, -2), **place)
    axes.log_axis(axis, "x")
    axes.log_axis(axis)
    axis.set(xlabel="learning rate", ylabel="largest distance / path")
    axis.set_title(rf"$\kappa$ = {kappa:.0f} against $\kappa$ = 1")
    look = {"textcoords": "offset points", "fontsize": 6.5, "color": palette["square-root"]}
    ends = drawn[(drawn["rule"] == "square-root") & (drawn["lr"] == drawn["lr"].min())]
    for problem, part in ends.groupby("problem"):
        loud = part.loc[part["lam"].idxmax()]
        name = rf"{titles.PROBLEMS[problem]}, $\lambda$ = {loud['lam']:.2g}"
        axis.annotate(name, (loud["lr"], loud["limit"]), (-3, -8 if loud["limit"] > 0.1 else 3), **look)


def draw_spread(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the relative spread over batch sizes against lr0.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of `sim.invariance --spread-out`.
    """
    import seaborn as sns
    from matplotlib.lines import Line2D

    from analysis.drawing import axes, style

    problems = titles.known(table["problem"], titles.PROBLEMS, "problem")
    lines = dict(zip(problems, ("-", "--", ":"), strict=False))
    palette, marks = style.colours(RULES), style.markers(RULES)
    axis.set_yscale("log")
    axes.log_span(axis, table["lr0"])
    for problem, rows in table.drop_duplicates(["problem", "rule", "lr0"]).groupby("problem"):
        look = {
            "hue": "rule",
            "style": "rule",
            "palette": palette,
            "markers": marks,
            "dashes": False,
        } | style.FLAT
        sns.lineplot(
            rows,
            x="lr0",
            y="relative",
            linestyle=lines[problem],
            lw=1,
            errorbar=None,
            legend=False,
            ax=axis,
            **look,
        )
    axis.axhline(BREAK, color="0.6", lw=0.8, zorder=0)
    axes.log_axis(axis, "x")
    axes.log_axis(axis)
    axis.set(xlabel=r"$\eta_0$, at one micro-batch", ylabel="spread of the loss / its fall")
    sizes = sorted(table["batch_size"].unique())
    axis.set_title(f"batch sizes {', '.join(f'{size:.0f}' for size in sizes)}")
    axis.annotate(
        f"broken above {100 * BREAK:g} %", (0, BREAK), (2, -8), ("axes fraction", "data"), "offset points",
        fontsize=6.5, color="0.4",
    )  # fmt: skip
    handles = [
        Line2D([], [], ls=lines[name], color="0.3", lw=1, label=titles.PROBLEMS[name]) for name in problems
    ]
    axis.legend(handles=handles, loc="lower right", fontsize=6.5)


def draw_c_total(axis: "Axes", betas: tuple[float, float], lams: list[float], max_kappa: int) -> None:
    """Draw lr C_total / lr0 against kappa for every rule and both noise levels.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    betas : (beta1, beta2)
        At kappa = 1.
    lams : list of two floats
        Noise-to-signal ratios of a micro-batch.
    max_kappa : int
    """
    import numpy as np
    import pandas as pd
    import seaborn as sns
    from matplotlib.lines import Line2D

    from analysis.drawing import axes, style

    marked = 2.0 ** np.arange(np.log2(max_kappa) + 1e-9)
    kappa = np.unique([*np.geomspace(1, max_kappa, 200), *marked])
    palette, marks = style.colours(RULES), style.markers(RULES)
    lines = dict(zip(lams, ("--", "-"), strict=True))
    for lam, line in lines.items():
        curves = pd.concat(
            pd.DataFrame({"rule": rule, "kappa": kappa, "value": scaled_c_total(rule, kappa, *betas, lam)})
            for rule in RULES
        )
        look = {"hue": "rule", "palette": palette, "legend": False, "ax": axis}
        sns.lineplot(curves, x="kappa", y="value", linestyle=line, lw=1.2, errorbar=None, **look)
        points = curves[curves["kappa"].isin(marked)]
        sns.scatterplot(points, x="kappa", y="value", style="rule", markers=marks, s=14, **look)
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axes.counts_axis(axis, marked[::2].tolist())
    axis.set(xlabel=r"micro-batches a batch, $\kappa$", ylabel=r"$\eta\,C_{total}\,/\,\eta_0$")
    axis.set_title(r"penalty on $\|\nabla L\|_1$")
    handles = [
        Line2D([], [], ls=line, color="0.3", lw=1, label=rf"$\lambda$ = {lam:g}")
        for lam, line in lines.items()
    ]
    axis.legend(handles=handles, loc="upper right", bbox_to_anchor=(1, 0.9), fontsize=7)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed([args.slopes, args.spread]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    from analysis.drawing import style
    from analysis.inputs import tables

    betas = args.beta1, args.beta2
    if args.max_kappa * (1 - min(betas)) > 1:
        largest = int(1 / (1 - min(betas)) + 1e-9)
        raise InputError(f"--max-kappa is {args.max_kappa}, allowed: at most {largest}, where a beta is 0")
    slopes, spread = tables.read([args.slopes], SLOPES), tables.read([args.spread], SPREAD)
    for table in (slopes, spread):
        tables.check_words(table, "rule", RULES)
        tables.check_words(table, "problem", titles.PROBLEMS)
    summary = summarize(slopes, spread, betas, args.lam_micro, args.max_kappa) if args.summary else None
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.WIDTH, 2.6))
    draw_slopes(axes[0], slopes)
    draw_spread(axes[1], spread)
    draw_c_total(axes[2], betas, args.lam_micro, args.max_kappa)
    palette, marks = style.colours(RULES), style.markers(RULES)
    handles = [
        Line2D([], [], color=palette[rule], marker=marks[rule], label=titles.SCALINGS[rule]) for rule in RULES
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    style.save(figure, args.out)
    if args.summary:
        write_json(args.summary, summary)


if __name__ == "__main__":
    run(main)
