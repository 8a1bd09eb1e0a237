"""Draw what batch size and weight decay do to the test error on images, and the spread over batch sizes.

One or two rows of panels a data set, network and normalisation. The learning rate is chosen by the validation error;
the test error is then read off the last evaluation. `--numbers` also writes what is drawn, with verdicts, as JSON.
"""

import argparse
from typing import TYPE_CHECKING, Any

from analysis.inputs import titles
from analysis.reductions.image_sweep import BREAKS, STUDIES, TRAINS, reduce
from common.cli import Parser, run
from common.files import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OPTIMIZERS = ("adam", "adamw", "invariant-adamw")
"""In the order of their colours."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_image_sweep", description=__doc__)
    for study, what in STUDIES.items():
        parser.add_argument(
            f"--{study}", nargs="+", default=[], metavar="CSV", help=f"of train.image_sweep: {what}"
        )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--numbers", metavar="JSON", help="also write what is drawn, and the verdicts")
    return parser


def draw_errors(axis: "Axes", drawn: dict[str, list[dict[str, Any]]], studies: list[str], x: str) -> None:
    """Draw test error against batch size or weight decay, a curve an optimiser and study.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    drawn : dict
        See `verdicts`.
    studies : list of str
        Which of them: "batch", "steps" (dashed), "decay".
    x : {"batch_size", "weight_decay"}
    """
    import pandas as pd
    import seaborn as sns

    from analysis.drawing import axes, style

    axis.set_yscale("log")
    axes.log_span(axis, [row[x] for study in studies for row in drawn[study]])
    palette, marks = style.colours(OPTIMIZERS), style.markers(OPTIMIZERS)
    for study in studies:
        rows = pd.DataFrame(drawn[study])
        if rows.empty:
            continue
        steps = study == "steps"
        side = -1 if steps else 1  # so that bars do not hide each other
        beside = {name: 1.06 ** (side * i) for i, name in enumerate(OPTIMIZERS)}
        rows = rows.assign(place=rows[x] * rows["optimizer"].map(beside))
        look = {"hue": "optimizer", "style": "optimizer", "palette": palette, "markers": marks}
        line = {"linestyle": "--", "lw": 1} if steps else {}
        kind = look | line | style.FLAT | {"dashes": False, "errorbar": None, "legend": False}
        sns.lineplot(rows, x="place", y="mean", ax=axis, **kind)
        for optimizer, part in rows.groupby("optimizer"):
            axes.bars(axis, part, "place", ("low", "high"), palette[optimizer])
            label = titles.OPTIMIZERS[optimizer] + (
                f", {rows['n_steps'].iloc[0]:,} steps each" if steps else ""
            )
            dashed: dict[str, Any] = {"ls": "--", "lw": 1} if steps else {}
            axis.plot([], [], color=palette[optimizer], marker=marks[optimizer], label=label, **dashed)
    axis.set_ylabel("test error")
    axis.set_xlabel("batch size" if x == "batch_size" else r"weight decay $\gamma$")
    if x == "batch_size":
        axes.counts_axis(axis, sorted({row[x] for study in studies for row in drawn[study]}))
    else:
        axes.log_axis(axis, "x")
    axes.log_axis(axis, percent=True)
    _legend(axis)


def draw_spreads(axis: "Axes", rows: list[dict[str, Any]], name: str) -> None:
    """Draw a spread over batch sizes against the reference learning rate, a curve a rule.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : list of dict
        Of `spreads`.
    name : {"loss", "error"}
    """
    import pandas as pd
    import seaborn as sns

    from analysis.drawing import axes, style

    table = pd.DataFrame(rows)
    rules = titles.known(table["scaling"], titles.SCALINGS, "scaling")
    palette, marks = style.colours(rules), style.markers(rules)
    axis.set_yscale("log")
    axes.log_span(axis, table["lr"])
    look = {"hue": "scaling", "style": "scaling", "palette": palette, "markers": marks, "dashes": False}
    sns.lineplot(table, x="lr", y=name, errorbar=None, legend=False, ax=axis, **look, **style.FLAT)
    for rule in rules:
        axes.bars(axis, table[table["scaling"] == rule], "lr", (f"{name}_low", f"{name}_high"), palette[rule])
        axis.plot([], [], color=palette[rule], marker=marks[rule], label=titles.SCALINGS[rule])
    axis.set_xlabel("learning rate at the reference batch size")
    axis.set_ylabel("spread of log training loss" if name == "loss" else "spread of test error")
    axes.log_axis(axis, "x")
    axes.log_axis(axis, percent=name == "error")
    _legend(axis)


def _legend(axis):
    """Name the curves, where they hide least."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        axis.legend(handles, labels, fontsize=7, loc="best")


def main(argv: list[str] | None = None) -> None:
    """Reduce, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed([*args.batch, *args.steps, *args.decay, *args.invariance]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    groups = reduce({study: getattr(args, study) for study in STUDIES})
    style.apply()
    rows = [(group, kind) for group in groups for kind in _panels(group["drawn"])]
    figure, axes = plt.subplots(len(rows), 2, figsize=(style.WIDTH, 2.7 * len(rows) + 0.2), squeeze=False)
    named: set[str] = set()
    for (left, right), (group, kind) in zip(axes, rows, strict=True):
        drawn = group["drawn"]
        if kind == "errors":
            draw_errors(left, drawn, ["batch", "steps"], "batch_size")
            draw_errors(right, drawn, ["decay"], "weight_decay")
        else:
            draw_spreads(left, drawn["invariance"], "loss")
            draw_spreads(right, drawn["invariance"], "error")
        if group["title"] not in named:  # above the group's first row
            left.set_title(group["title"], loc="left")
        named.add(group["title"])
    style.save(figure, args.out)
    if args.numbers:
        write_json(args.numbers, {"groups": groups, "trains": TRAINS, "breaks": BREAKS})


def _panels(drawn: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rows of panels that a group needs."""
    errors = ["errors"] if drawn["batch"] or drawn["steps"] or drawn["decay"] else []
    return errors + (["spreads"] if drawn["invariance"] else [])


if __name__ == "__main__":
    run(main)
