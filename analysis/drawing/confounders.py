"""What makes large batches fail on feature noise: what removes the failure, and the error over the steps."""

from typing import TYPE_CHECKING

import seaborn as sns

from analysis.drawing import axes, style
from analysis.inputs import titles
from analysis.reductions.confounders import base_lr
from analysis.reductions.feature_noise import last_measurements

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ERROR = (-0.03, 1.03)
"""Limits of an axis of errors."""


def remedies(table: "pd.DataFrame") -> dict[str, "pd.DataFrame"]:
    """Return the last measurements of the large batch by what was changed, and those of batch 2.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of the studies of steps, replacement and betas.

    Returns
    -------
    dict of str to pandas.DataFrame
        Name of the change to rows; the first one is without any.
    """
    last = last_measurements(table)
    of = {study: part[part["batch"] == "large"] for study, part in last.groupby("study")}
    steps, base = of["steps"], base_lr(table[table["study"] == "steps"])
    few, many = steps["n_steps"].min(), steps["n_steps"].max()
    usual = steps[(steps["lr"] / base - 1).abs() < 1e-9]
    larger = steps[steps["lr"] > base * 1.01]
    larger = larger[larger["lr"] == larger["lr"].min()]
    size, betas = steps["batch_size"].iloc[0], of["betas"]
    small = last[(last["study"] == "replacement") & (last["batch"] == "small") & ~last["replacement"]]
    return {
        f"batch {size}, as published": usual[usual["n_steps"] == few],
        f"{many / few:g} × the steps": usual[usual["n_steps"] == many],
        f"{larger['lr'].iloc[0] / base:.3g} × the learning rate": larger[larger["n_steps"] == few],
        "drawn with replacement": of["replacement"][of["replacement"]["replacement"]],
        r"$\beta_2$ = 0.99": betas[(betas["beta1"] == 0.9) & (betas["beta2"] == 0.99)],
        f"batch {small['batch_size'].iloc[0]}": small,
    }


def draw_remedies(axis: "Axes", table: "pd.DataFrame", optimizer: str) -> None:
    """Draw one optimiser's test errors, a row a change: each seed, and their mean as a bar.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame
        See `remedies`.
    optimizer : {"adam", "adamw"}
    """
    rows = remedies(table)
    colour = style.OKABE_ITO[1]
    for i, part in enumerate(rows.values()):
        errors = part[part["optimizer"] == optimizer]["test_error"]
        if errors.empty:
            axis.annotate("not run", (0.03, i), color="0.5", va="center", fontsize=8)
            continue
        last = i in (0, len(rows) - 1)
        axis.barh(i, errors.mean(), height=0.55, color="0.75" if last else colour, alpha=0.75)
        axis.plot(errors, [i] * len(errors), "o", color="black", ms=3.5, mfc="white", clip_on=False)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlim=ERROR, xlabel="test error", title=titles.OPTIMIZERS[optimizer])


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
    axes.log_span(axis, rows["way"])
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
        legend=False,
        ax=axis,
    )
    axes.log_axis(axis, "x")
    axis.set(xlabel="learning rate × steps", ylabel="test error", ylim=ERROR)
    axis.set_title(titles.OPTIMIZERS[optimizer])
    means = rows.groupby(["curve", "way"])["test_error"].mean()
    ends = {name: (means[name].index[-1], means[name].iloc[-1], palette[name]) for name in names}
    axes.label_ends(axis, ends)


def _curve(batch_size, factor):
    return f"batch {batch_size:g}" + (f", lr × {factor:g}" if factor > 1 else "")
