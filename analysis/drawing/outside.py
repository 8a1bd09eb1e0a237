"""Panels of published results beside our own: where the best beta2 was, and what rules of the field name."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWEEP, TABLE = "analysis/published/marin_beta2.csv", "analysis/published/table1.csv"
TITLES = ("published: C4, one pass", "published: WikiText-2")
_LEGEND: dict[str, Any] = {
    "loc": "upper right",
    "fontsize": 6.5,
    "handlelength": 1.2,
    "columnspacing": 0.8,
    "borderaxespad": 0,
}
NEARLY = 1.001
"""Values whose loss is at most this many times the best one's are drawn as a bar: the runs are single ones."""


def draw_sweep(axis: "Axes") -> None:
    """Draw the sweep of marin-community, and the rules of the field that name a beta2 for its batch sizes."""
    import pandas as pd

    from adam_minibatch_noise.advice.field_rules import FIELD_RULES, Situation
    from analysis.drawing import axes, style

    table = pd.read_csv(SWEEP)
    least = table.groupby("batch_size")["bits_per_byte"].transform("min")
    best = table[table["bits_per_byte"] == least]
    near = table[table["bits_per_byte"] <= NEARLY * least].groupby("batch_size")["beta2"].agg(["min", "max"])
    near = near.reset_index().assign(
        low=lambda t: axes.memory(t["min"]), high=lambda t: axes.memory(t["max"])
    )
    axis.plot(best["batch_size"], axes.memory(best["beta2"]), "k-s", ms=4.5, label="best")
    axes.bars(axis, near, "batch_size", ("low", "high"), "black")
    sizes = (
        np.geomspace(table["batch_size"].min() / 2, table["batch_size"].max() * 2, 30).astype(int).tolist()
    )
    for k, (name, label) in enumerate(
        {
            "marin_clip": "constant in samples",
            "equal_betas": r"$\beta_1 = \beta_2$",
            "default": "default",
        }.items()
    ):
        rule = FIELD_RULES[name]
        named = [rule.settings(Situation(size, 1.0, 0.9062, 0.999, None, np.nan))[2] for size in sizes]
        axis.plot(sizes, axes.memory(np.array(named)), color=style.OKABE_ITO[k], lw=1, label=label)
    axis.legend(**_LEGEND, ncols=2)


def draw_table(axis: "Axes") -> None:
    """Draw the published best beta2 of the Transformer-XL at three learning rates."""
    import pandas as pd

    from analysis.drawing import axes, style

    table = pd.read_csv(TABLE)
    rates = sorted(table["lr"].unique())
    for k, rate in enumerate(rates):
        part = table[table["lr"] == rate]
        axis.plot(
            part["batch_size"] * 1.05**k, axes.memory(part["best_beta2"]), style.MARKERS[k], ms=3.5, ls=":", lw=0.9,
            color=style.OKABE_ITO[k], label=f"learning rate {rate:.2g}",
        )  # fmt: skip
    axis.legend(**_LEGEND)
