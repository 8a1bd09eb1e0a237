"""Draw the studies of feature noise: what is fitted over time, and test error against settings.

--figure alignments: the published runs over time; batch: test error against batch size; decay: against weight decay;
remedies: what removes the failure of the large batch; steps: test error over the steps; rescue: other optimisers and
activations. Points are means over seeds,
bars and bands run from the lowest to the highest.
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from analysis.inputs import titles
from analysis.reductions.feature_noise import FAILS, last_measurements
from common.cli import Parser, run
from sim.feature_noise.studies import PUBLISHED_DECAY

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MEASURED = {
    "signal_plus": "signal, each class",
    "signal_minus": "signal, each class",
    "noise": "noise, least",
    "test_error": "test error",
}
"""Columns drawn over time, and their names."""
ERROR = (-0.03, 1.03)
"""Limits of an axis of errors."""
STUDIES = {
    "alignments": ("table",),
    "batch": ("batch",),
    "decay": ("decay",),
    "remedies": ("steps", "replacement", "betas"),
    "steps": ("steps",),
    "rescue": ("optimizers", "activations"),
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


def draw_alignments(table: "pd.DataFrame") -> "Figure":
    """Draw alignments with signal and noise, and the test error, over the steps of the published runs."""
    import seaborn as sns

    from analysis.drawing import axes, style

    published = table["weight_decay"] == table["optimizer"].map(PUBLISHED_DECAY)
    rows = table[published & (table["step"] > 0)]
    settings = ["optimizer", "weight_decay", "batch_size", "seed", "step"]
    rows = rows.melt(settings, list(MEASURED), "measured").assign(line=lambda rows: rows["measured"])
    rows = rows.replace({"measured": MEASURED})
    names = list(dict.fromkeys(MEASURED.values()))
    sizes = sorted(rows["batch_size"].unique(), reverse=True)
    height = 2.2
    grid = style.facets(
        rows,
        row="optimizer",
        col="batch_size",
        row_order=list(PUBLISHED_DECAY),
        col_order=sizes,
        height=height,
        aspect=style.WIDTH / len(sizes) / height,
        sharey=True,
        sharex="col",
    )
    for (optimizer, batch_size), axis in grid.axes_dict.items():
        part = rows[(rows["optimizer"] == optimizer) & (rows["batch_size"] == batch_size)]
        axes.log_span(axis, rows[rows["batch_size"] == batch_size]["step"])
        sns.lineplot(
            part.assign(run=part["line"] + part["seed"].astype(str)),
            x="step",
            y="value",
            hue="measured",
            style="measured",
            hue_order=names,
            style_order=names,
            palette=style.colours(names),
            units="run",
            estimator=None,
            lw=0.9,
            alpha=0.85,
            ax=axis,
        )
        handles, labels = axis.get_legend_handles_labels()
        axis.get_legend().remove()
        axes.log_axis(axis, "x")
        axis.axhline(0, color="0.7", lw=0.6, zorder=0)
        decay = axes.number(PUBLISHED_DECAY[optimizer])
        title = f"{titles.OPTIMIZERS[optimizer]}, γ = {decay}, batch {batch_size}"
        axis.set(ylim=(-0.4, 2.05), title=title, xlabel="", ylabel="")
    grid.set_xlabels("step")
    grid.set_ylabels("alignment; error")
    grid.figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return grid.figure


def _curves(axis, rows, x, y, hue, names):
    """Draw means over seeds, with bars from the lowest to the highest, a curve a name."""
    import seaborn as sns

    from analysis.drawing import style

    sns.lineplot(
        rows,
        x=x,
        y=y,
        hue=hue,
        style=hue,
        hue_order=names,
        style_order=names,
        palette=style.colours(names),
        markers=style.markers(names),
        dashes=False,
        errorbar=style.RANGE,
        err_style="bars",
        ax=axis,
        **style.FLAT,
    )


def draw_batch(table: "pd.DataFrame") -> "Figure":
    """Draw test error against batch size, and against its share of the samples."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style
    from analysis.drawing.axes import log_span

    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 2.7), sharey=True)
    last = last_measurements(table)
    last = last.assign(
        n_batches=last["n_samples"] / last["batch_size"], samples=[f"N = {n}" for n in last["n_samples"]]
    )
    names = [f"N = {n}" for n in sorted(last["n_samples"].unique())]
    for axis, x, label in zip(
        axes, ("batch_size", "n_batches"), ("batch size", "batches an epoch"), strict=True
    ):
        log_span(axis, last[x], base=2)
        _curves(axis, last, x, "test_error", "samples", names)
        axis.set(xlabel=label, ylabel="test error", ylim=ERROR)
        axis.axhline(FAILS, color="0.6", lw=0.7, ls=":")
    axes[1].invert_xaxis()
    axes[0].get_legend().remove()
    axes[1].legend(title=None, loc="upper left")
    return figure


def draw_decay(table: "pd.DataFrame") -> "Figure":
    """Draw training and test error against weight decay, means and ranges over seeds."""
    import matplotlib.pyplot as plt

    from analysis.drawing import axes, style

    figure, panels = plt.subplots(2, 3, figsize=(style.WIDTH, 4.4), sharey=True, sharex="col")
    last = last_measurements(table)
    last = last.assign(
        start=[f"σ₀ = {std:g}" for std in last["init_std"]], size=[f"batch {b:g}" for b in last["batch_size"]]
    )
    small, usual = last[last["batch"] == "small"], last["init_std"].median()
    wide = last[(last["optimizer"] == "adamw") & (last["init_std"] == usual)]
    columns = [
        ("Adam, batch 2", small[small["optimizer"] == "adam"], "start", "init_std"),
        ("AdamW, batch 2", small[small["optimizer"] == "adamw"], "start", "init_std"),
        (f"AdamW, σ₀ = {usual:g}", wide, "size", "batch_size"),
    ]
    for column, (title, part, hue, order) in zip(panels.T, columns, strict=True):
        names = list(dict.fromkeys(part.sort_values(order)[hue]))
        beside = {name: 1.14 ** (i - (len(names) - 1) / 2) for i, name in enumerate(names)}
        part = part.assign(place=part["weight_decay"] * part[hue].map(beside))
        for axis, y in zip(column, ("train_error", "test_error"), strict=True):
            axes.log_span(axis, part["place"])
            _curves(axis, part, "place", y, hue, names)
            axes.log_axis(axis, "x")
            axis.set(ylim=ERROR, xlabel="weight decay γ")
        column[0].set_title(title)
        column[0].legend(title=None, loc="upper left")
        column[1].get_legend().remove()
    panels[0, 0].set_ylabel("training error")
    panels[1, 0].set_ylabel("test error")
    return figure


def draw_remedies(table: "pd.DataFrame") -> "Figure":
    """Draw what removes the failure of the large batch, a panel an optimiser."""
    import matplotlib.pyplot as plt

    from analysis.drawing import confounders, style

    figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 2.1), sharey=True)
    for axis, optimizer in zip(panels, PUBLISHED_DECAY, strict=True):
        confounders.draw_remedies(axis, table, optimizer)
    panels[0].invert_yaxis()
    return figure


def draw_steps(table: "pd.DataFrame") -> "Figure":
    """Draw the test error over the steps, a panel an optimiser."""
    import matplotlib.pyplot as plt

    from analysis.drawing import confounders, style

    figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 2.6), sharey=True)
    for axis, optimizer in zip(panels, PUBLISHED_DECAY, strict=True):
        confounders.draw_steps(axis, table, optimizer)
    return figure


def draw_rescue(table: "pd.DataFrame") -> "Figure":
    """Draw what other optimisers and activations make of the large batch."""
    import matplotlib.pyplot as plt

    from analysis.drawing import rescue, style

    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.4), width_ratios=(1, 0.8))
    rescue.draw(left, rescue.optimizers(table[table["study"] == "optimizers"]))
    rescue.draw(right, rescue.activations(table[table["study"] == "activations"]))
    left.set_title("optimisers, q = 3")
    right.set_title("activations, AdamW")
    return figure


DRAW = {
    "alignments": draw_alignments,
    "batch": draw_batch,
    "decay": draw_decay,
    "remedies": draw_remedies,
    "steps": draw_steps,
    "rescue": draw_rescue,
}


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    from analysis.drawing import style
    from analysis.inputs import feature_noise

    table = feature_noise.read(args.tables)
    wanted = STUDIES[args.figure]
    missing = set(wanted) - set(table["study"])
    if missing:
        raise InputError(f"--tables hold no study {sorted(missing)[0]!r}, needed for --figure {args.figure}")
    style.apply()
    style.save(DRAW[args.figure](table[table["study"].isin(wanted)]), args.out)


if __name__ == "__main__":
    run(main)
