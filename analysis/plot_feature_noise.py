"""Draw the studies of stochastic Adam on the two-layer CNN: what is fitted over time, and test error against settings.

--figure alignments: the published runs over time; batch: test error against batch size; decay: against weight decay;
confounders: steps, supports, replacement, betas. Points are means over seeds, bars run from the lowest to the highest.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from analysis.feature_noise_verdicts import COLUMNS, verdicts
from analysis.reductions.feature_noise import ends
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"adam": "Adam", "adamw": "AdamW"}
DECAYS = {"adam": 1e-5, "adamw": 1e-2}
"""lambda of the published table."""
STUDIES = {
    "alignments": ("table",),
    "batch": ("batch",),
    "decay": ("decay",),
    "confounders": ("steps", "supports", "replacement", "betas"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_feature_noise", description=__doc__.split("\n\n")[0])
    parser.add_argument("--figure", choices=STUDIES, required=True, help="which")
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="of sim.feature_noise_studies"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def _bars(axis: "Axes", x, part: "pd.DataFrame", label: str | None = None, what: str = "test_error", **look):
    """Draw means of an error by the values of `x`, with bars from the lowest to the highest seed."""
    groups = part.groupby(x)[what]
    mean = groups.mean()
    bars = [(mean - groups.min()).clip(lower=0), (groups.max() - mean).clip(lower=0)]  # below 0 by rounding
    axis.errorbar(mean.index, mean, yerr=bars, label=label, **look)


def draw_alignments(table: "pd.DataFrame") -> "Figure":
    """Draw alignments with signal and noise, and the test error, over the steps of the published runs."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    blue, orange, green = style.OKABE_ITO[:3]
    sizes = sorted(table["batch_size"].unique(), reverse=True)
    figure, axes = plt.subplots(2, 2, figsize=(style.WIDTH, 4.4), sharey=True, sharex="col", squeeze=False)
    for row, (optimizer, decay) in zip(axes, DECAYS.items(), strict=True):
        for axis, batch_size in zip(row, sizes, strict=True):
            chosen = (table["optimizer"] == optimizer) & (table["weight_decay"] == decay)
            part = table[chosen & (table["batch_size"] == batch_size) & (table["step"] > 0)]
            for i, (_, seed) in enumerate(part.groupby("seed")):
                kept = {"lw": 0.9, "alpha": 0.85}
                first = i == 0
                signal = seed[["signal_plus", "signal_minus"]]
                axis.plot(
                    seed["step"],
                    signal["signal_plus"],
                    color=blue,
                    label="signal, each class" * first,
                    **kept,
                )
                axis.plot(seed["step"], signal["signal_minus"], color=blue, **kept)
                axis.plot(
                    seed["step"], seed["noise"], "--", color=orange, label="noise, least" * first, **kept
                )
                axis.plot(
                    seed["step"], seed["test_error"], ":", color=green, label="test error" * first, **kept
                )
            axis.set(
                xscale="log",
                ylim=(-0.4, 2.05),
                title=f"{NAMES[optimizer]}, λ = {decay:g}, batch {batch_size}",
            )
            axis.axhline(0, color="0.7", lw=0.6, zorder=0)
    for axis in axes[1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("alignment; error")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_batch(table: "pd.DataFrame") -> "Figure":
    """Draw test error against batch size, and against its share of the samples."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 2.7), sharey=True)
    last = ends(table)
    looks = zip(sorted(last["n_samples"].unique()), style.OKABE_ITO, style.MARKERS, strict=False)
    for n, color, marker in looks:
        part = last[last["n_samples"] == n]
        look = {"color": color, "marker": marker}
        _bars(axes[0], "batch_size", part, f"n = {n}", **look)
        _bars(axes[1], part["n_samples"] / part["batch_size"], part, **look)
    axes[0].set(xscale="log", xlabel="batch size B", ylabel="test error", ylim=(-0.03, 1.03))
    axes[1].set(xscale="log", xlabel="batches an epoch n/B")
    axes[1].invert_xaxis()
    for axis, base in zip(axes, (2, 2), strict=True):
        axis.set_xscale("log", base=base)
        axis.axhline(0.25, color="0.6", lw=0.7, ls=":")
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="upper left")
    return figure


def draw_decay(table: "pd.DataFrame") -> "Figure":
    """Draw training and test error against weight decay, means and ranges over seeds."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    figure, axes = plt.subplots(2, 3, figsize=(style.WIDTH, 4.2), sharey=True, sharex="col")
    last = ends(table)
    small, start = last[last["batch_size"] == 2], last["init_std"].median()
    panels = [
        ("Adam, batch 2", small[small["optimizer"] == "adam"], "init_std", "σ₀ = "),
        ("AdamW, batch 2", small[small["optimizer"] == "adamw"], "init_std", "σ₀ = "),
        ("AdamW", last[(last["optimizer"] == "adamw") & (last["init_std"] == start)], "batch_size", "B = "),
    ]
    for column, (title, part, name, prefix) in zip(axes.T, panels, strict=True):
        for row, what in zip(column, ("train_error", "test_error"), strict=True):
            looks = zip(sorted(part[name].unique()), style.OKABE_ITO, style.MARKERS, strict=False)
            for value, color, marker in looks:
                chosen, look = part[part[name] == value], {"color": color, "marker": marker, "lw": 1}
                _bars(row, "weight_decay", chosen, f"{prefix}{value:g}", what, **look)
            row.set(xscale="log", ylim=(-0.03, 1.03))
        column[0].set_title(title)
        column[0].legend(loc="upper left", fontsize=7)
        column[1].set_xlabel("weight decay λ")
    axes[0, 0].set_ylabel("training error")
    axes[1, 0].set_ylabel("test error")
    return figure


def draw_confounders(table: "pd.DataFrame") -> "Figure":
    """Draw one panel a confounder."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    found = verdicts(table)
    figure, axes = plt.subplots(2, 2, figsize=(style.WIDTH, 5.2))
    draw_steps(axes[0, 0], table[table["study"] == "steps"])
    for axis, study, title in (
        (axes[0, 1], "supports", "(c) supports, large batch"),
        (axes[1, 0], "replacement", "(d) drawing batches"),
    ):
        last = ends(table[table["study"] == study])
        draw_cases(axis, last[last["batch_size"] > 2] if study == "supports" else last)
        axis.set_title(title)
    axes[1, 1].set_xscale("symlog", linthresh=1, linscale=0.5)
    for i, group in enumerate(found["betas"]["groups"]):
        x, y = ([cell[name] for cell in group["rows"]] for name in ("c_total_start", "test_error"))
        label = f"B = {group['batch_size']}, lam = {group['lam_start']:.2g}"
        axes[1, 1].plot(x, y, style.MARKERS[i], color=style.OKABE_ITO[i], label=label)
    axes[1, 1].set(xlabel="C_total", ylabel="test error", title="(e) pairs of betas", ylim=(-0.03, 1.3))
    axes[1, 1].set_xticks([-1000, -10, 0, 10, 1000])
    axes[1, 1].minorticks_off()
    axes[1, 1].legend(loc="upper right", fontsize=7)
    return figure


def draw_steps(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw test error over lr * steps: of both batch sizes at the same lr, and of the large one at larger ones."""
    from analysis.drawing import style

    base = table["lr"].median()
    shown = table[(table["step"] > 0) & (table["lr"] >= base * 0.99)]
    colors = {}
    for (factor, optimizer, batch_size), part in shown.groupby(
        [(shown["lr"] / base).round(), "optimizer", "batch_size"]
    ):
        i = colors.setdefault((optimizer, batch_size), len(colors))
        larger = sorted(f for f in (shown["lr"] / base).round().unique() if f > 1)
        longest = part[part["n_steps"] == part["n_steps"].max()].assign(
            way=lambda rows: rows["lr"] * rows["step"]
        )
        label = f"{NAMES[optimizer]}, {batch_size}" + (f", lr × {factor:.0f}" if factor > 1 else "")
        line = (
            {"ls": ("--", ":", "-.")[larger.index(factor) % 3]}
            if factor > 1
            else {"marker": style.MARKERS[i]}
        )
        _bars(axis, "way", longest, label, color=style.OKABE_ITO[i], lw=1, markersize=3, **line)
    axis.set(xscale="log", xlabel="learning rate × steps", ylabel="test error", ylim=(-0.03, 1.75))
    axis.set_title("(a), (b) more steps, larger steps")
    close = {"handlelength": 1.4, "columnspacing": 0.6, "handletextpad": 0.4, "borderaxespad": 0.1}
    axis.legend(
        fontsize=5.5, ncols=2, loc="upper left", title="optimiser, batch", title_fontsize=5.5, **close
    )


def draw_cases(axis: "Axes", last: "pd.DataFrame") -> None:
    """Draw a mark a case, one under the other, means with bars from the lowest to the highest seed."""
    from analysis.drawing import style

    cases = list(dict.fromkeys(last["case"]))
    for i, case in enumerate(cases):
        error = last[last["case"] == case]["test_error"]
        spread = [[max(error.mean() - error.min(), 0)], [max(error.max() - error.mean(), 0)]]
        color = style.OKABE_ITO[0] if " b2 " in case else style.OKABE_ITO[1]
        axis.errorbar(error.mean(), -i, xerr=spread, marker="o", color=color)
    labels = [_label(case) for case in cases]
    axis.set_yticks([-i for i in range(len(cases))], labels, fontsize=7)
    axis.set(xlabel="test error", xlim=(-0.03, 1.03), ylim=(-len(cases) + 0.5, 0.5))


def _label(case):
    """Name of a case; the noise of a 1-norm as published is marked."""
    optimizer, batch, rest = case.split(" ", 2)
    if rest.startswith("with"):
        return f"{NAMES[optimizer]}, B = {batch[1:]}, {rest}"
    layout, _, norm = rest.replace(">>", "≫").partition(", ")
    return f"{NAMES[optimizer]}, {layout}, {'1' if norm else '2'}-norm"


DRAW = {
    "alignments": draw_alignments,
    "batch": draw_batch,
    "decay": draw_decay,
    "confounders": draw_confounders,
}


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.as_written(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    from analysis.drawing import style
    from analysis.inputs import tables

    table = tables.read(args.tables, COLUMNS)
    wanted = STUDIES[args.figure]
    missing = set(wanted) - set(table["study"])
    if missing:
        raise InputError(f"--tables hold no study {sorted(missing)[0]!r}, needed for --figure {args.figure}")
    style.apply()
    style.save(DRAW[args.figure](table[table["study"].isin(wanted)]), args.out)


if __name__ == "__main__":
    run(main)
