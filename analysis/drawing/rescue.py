"""What rescues the large batch on feature noise: test errors by optimiser, and by activation."""

from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns

from analysis.drawing import style
from analysis.inputs import titles
from analysis.reductions.feature_noise import last_measurements
from analysis.reductions.rescue import ACTIVATIONS, at_published_lr, methods, split_by_rule, tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (
    "published learning rate",
    "tuned learning rate",
    "by the invariant rule",
    "the same without micro-batches",
)
SMALL_BATCH = "batch 2, as many steps"
MICRO = "invariant Adam, micro-batches of 1"
ERROR = (-0.03, 1.03)
"""Limits of an axis of errors."""


def optimizers(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the errors that a figure shows, a row a seed: label, setting, test_error.

    Parameters
    ----------
    table : pandas.DataFrame
        Of the study of optimisers.
    """
    small, large, by_rule = split_by_rule(last_measurements(table))
    rows = []
    for about, runs in methods(large):
        method, size = about["method"], about["micro_batch_size"]
        label = titles.OPTIMIZERS[method]
        if method == "invariant-adamw":
            label += f", micro-batches of {size}"
        elif method == "rmsprop":
            label += rf", $\beta_2$ = {about['beta2']:g}"
        rows += [at_published_lr(runs).assign(label=label, setting=SHOWN[0])]
        rows += [tuned(runs).assign(label=label, setting=SHOWN[1])]
        if method == "invariant-adamw":
            of_rule = by_rule[by_rule["rule_size"] == size]
            for name, setting in ((method, SHOWN[2]), ("adamw", SHOWN[3])):
                rows.append(of_rule[of_rule["method"] == name].assign(label=label, setting=setting))
    adamw = small[small["method"] == "adamw"]
    rows.append(adamw.assign(label=f"AdamW, {SMALL_BATCH}", setting=SHOWN[0]))
    return pd.concat(rows)


def activations(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the same for the study of activations."""
    last = last_measurements(table)
    last = last.assign(published_lr=last[last["batch"] == "small"]["lr"].iloc[0])
    small, large = last[last["batch"] == "small"], last[last["batch"] == "large"]
    rows = []
    for name in ACTIVATIONS:
        adamw = large[(large["shape"] == name) & (large["method"] == "adamw")]
        micro = large[(large["shape"] == name) & (large["method"] == "invariant-adamw")]
        of = {
            SHOWN[0]: at_published_lr(adamw),
            SHOWN[1]: tuned(adamw),
            MICRO: micro,
            SMALL_BATCH: small[small["shape"] == name],
        }
        rows += [runs.assign(label=name, setting=setting) for setting, runs in of.items()]
    return pd.concat(rows)


def draw(axis: "Axes", rows: "pd.DataFrame") -> None:
    """Draw means over seeds, with bars from the lowest to the highest, a line a label and a colour a setting.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : pandas.DataFrame
        Of `optimizers` or `activations`.
    """
    names = list(dict.fromkeys(rows["setting"]))
    sns.pointplot(
        rows,
        x="test_error",
        y="label",
        hue="setting",
        hue_order=names,
        palette=style.colours(names),
        markers=list(style.markers(names).values()),
        linestyles="none",
        dodge=0.5,
        errorbar=style.RANGE,
        markersize=3.5,
        err_kws={"linewidth": 1},
        ax=axis,
    )
    axis.set(xlim=ERROR, xlabel="test error", ylabel="")
    axis.grid(axis="y", color="0.92", lw=0.6)
    axis.legend(title=None, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=7)
