"""The panels of the confounders of feature noise: steps, supports, drawing batches, betas."""

from typing import TYPE_CHECKING

import seaborn as sns

from analysis.drawing import axes, style
from analysis.inputs import titles
from analysis.reductions.confounders import base_lr
from analysis.reductions.feature_noise import last_measurements

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LAYOUTS = {"disjoint": "disjoint", "n s = d": "n s = d", "n s >> d": "n s ≫ d"}
NORMS = {"same l2": "2-norm", "same l1": "1-norm"}
ERROR = (-0.03, 1.03)
"""Limits of an axis of errors."""


def draw_steps(axis: "Axes", table: "pd.DataFrame", optimizer: str) -> None:
    """Draw one optimiser's test error over lr * steps: both batch sizes at the same lr, the large one at larger ones.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        Rows of the study of steps; of each curve its longest runs are drawn.
    optimizer : {"adam", "adamw"}
    """
    base = base_lr(table)
    rows = table[(table["optimizer"] == optimizer) & (table["step"] > 0) & (table["lr"] >= base * 0.99)]
    rows = rows.assign(way=rows["lr"] * rows["step"], factor=(rows["lr"] / base).round())
    longest = rows.groupby(["factor", "batch_size"])["n_steps"].transform("max")
    rows = rows[rows["n_steps"] == longest]
    rows = rows.assign(curve=[_curve(*pair) for pair in zip(rows["batch_size"], rows["factor"], strict=True)])
    names = list(dict.fromkeys(rows.sort_values(["factor", "batch_size"])["curve"]))
    palette = style.colours(names)
    axis.set_xscale("log")
    sns.lineplot(
        rows,
        x="way",
        y="test_error",
        hue="curve",
        style="curve",
        hue_order=names,
        style_order=names,
        palette=palette,
        errorbar=style.RANGE,
        lw=1.2,
        ax=axis,
    )
    axes.log_axis(axis, "x")
    axis.set(xlabel="learning rate × steps", ylabel="test error", ylim=ERROR)
    axis.set_title(f"(a), (b) {titles.OPTIMIZERS[optimizer]}")
    axis.legend(title=None, ncols=2, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.1))


def _curve(batch_size, factor):
    return f"batch {batch_size:g}" + (f", lr × {factor:g}" if factor > 1 else "")


def draw_supports(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the test error of the large batch by the layout of supports, norm of the noise and optimiser."""
    last = last_measurements(table[table["batch"] == "large"])
    names = [f"{titles.OPTIMIZERS[o]}, {norm}" for norm in NORMS.values() for o in ("adam", "adamw")]
    last = last.assign(
        layout=last["layout"].map(LAYOUTS),
        kind=[
            f"{titles.OPTIMIZERS[optimizer]}, {NORMS[norm]}"
            for optimizer, norm in zip(last["optimizer"], last["noise_norm"], strict=True)
        ],
    )
    _points(axis, last, "layout", list(LAYOUTS.values()), "kind", names)
    axis.set_title("(c) supports, large batch")


def draw_replacement(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the test error by batch size, and by whether batches are drawn with replacement."""
    last = last_measurements(table)
    sizes = sorted(last["batch_size"].unique(), reverse=True)
    places = [f"batch {size},\n{how}" for size in sizes for how in ("without", "with")]
    last = last.assign(
        place=[
            f"batch {size},\n{'with' if again else 'without'}"
            for size, again in zip(last["batch_size"], last["replacement"], strict=True)
        ],
        kind=last["optimizer"].map(titles.OPTIMIZERS),
    )
    names = [titles.OPTIMIZERS[name] for name in ("adam", "adamw")]
    _points(axis, last, "place", places, "kind", names)
    axis.set_title("(d) replacement")


def _points(axis, rows, y, order, hue, names):
    """Draw means with bars from the lowest to the highest seed, a place a row and a colour a kind."""
    sns.pointplot(
        rows,
        x="test_error",
        y=y,
        hue=hue,
        order=order,
        hue_order=names,
        palette=style.colours(names),
        markers=list(style.markers(names).values()),
        errorbar=style.RANGE,
        dodge=0.15 * (len(names) - 1),
        linestyle="none",
        capsize=0.08,
        markersize=4,
        err_kws={"linewidth": 1},
        ax=axis,
    )
    axis.set(xlabel="test error", ylabel="", xlim=ERROR)
    axis.legend(
        title=None, ncols=2, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.1), columnspacing=0.8
    )


def draw_betas(axis: "Axes", groups: list[dict]) -> None:
    """Draw the test error of pairs of betas against their C_total.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    groups : list of dict
        Of `analysis.reductions.confounders.summarize_betas`.
    """
    import pandas as pd

    rows = pd.concat(
        pd.DataFrame(group["rows"]).assign(
            group=rf"batch {group['batch_size']}, $\lambda$ = {group['lam_start']:.2g}"
        )
        for group in sorted(groups, key=lambda group: group["batch_size"])
    )
    names = list(dict.fromkeys(rows["group"]))
    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    look = {"palette": style.colours(names), "markers": style.markers(names), "s": 28}
    sns.scatterplot(rows, x="c_total_start", y="test_error", hue="group", style="group", ax=axis, **look)
    axis.set(xlabel=r"$C_{total}$", ylabel="test error", title="(e) pairs of betas", ylim=ERROR)
    axis.set_xticks([-1000, -10, 0, 10, 1000])
    axes.no_minor_ticks(axis)
    axis.legend(title=None, fontsize=7, loc="upper right")
