"""Draw what batch size and weight decay do to the test error on images, and the spread over batch sizes.

One or two rows of panels a data set, network and normalisation. The learning rate is chosen by the validation error;
the test error is then read off the last evaluation. `--numbers` also writes what is drawn, with verdicts, as JSON.
"""

import argparse
from typing import TYPE_CHECKING, Any

from analysis.reductions.image_sweep import BREAKS, STUDIES, TRAINS, by, reduce
from common.cli import Parser, run
from common.files import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULES = {"invariant": "invariant Adam, lr as B", "square-root": "AdamW, lr as root of B"}
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "invariant-adamw": "invariant Adam"}


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
        Which of them: "batch", "steps" (open marks), "decay".
    x : {"batch_size", "weight_decay"}
    """
    from analysis.drawing import style

    for study in studies:
        for optimizer, rows in by(drawn[study], "optimizer").items():
            i, rows = list(OPTIMIZERS).index(optimizer), sorted(rows, key=lambda row: row[x])
            mean = [row["mean"] for row in rows]
            bars = [[row["mean"] - row["low"] for row in rows], [row["high"] - row["mean"] for row in rows]]
            same_steps = study == "steps"
            label = OPTIMIZERS[optimizer] + (f", {rows[0]['n_steps']:,} steps each" if same_steps else "")
            shift = 1.06 ** (i if not same_steps else -i)  # so that bars do not hide each other
            axis.errorbar(
                [shift * row[x] for row in rows],
                mean,
                bars,
                color=style.OKABE_ITO[i],
                marker=style.MARKERS[i],
                mfc="none" if same_steps else None,
                ls="--" if same_steps else "-",
                label=label,
            )
    base = {"base": 2} if x == "batch_size" else {}
    axis.set_xscale("log", **base)
    axis.set(yscale="log", ylabel="test error")
    axis.set_xlabel("batch size" if x == "batch_size" else r"weight decay $\lambda$")
    if x == "batch_size":
        sizes = sorted({row[x] for study in studies for row in drawn[study]})
        axis.set_xticks(sizes, [str(size) for size in sizes], fontsize=8 if len(sizes) < 6 else 6)
        axis.minorticks_off()
    percent(axis)
    axis.legend(loc="best")


def draw_spreads(axis: "Axes", rows: list[dict[str, Any]], name: str) -> None:
    """Draw a spread over batch sizes against the reference learning rate, a curve a rule.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : list of dict
        Of `spreads`.
    name : {"loss", "error"}
    """
    from analysis.drawing import style

    for i, (rule, part) in enumerate(by(rows, "scaling").items()):
        part = sorted(part, key=lambda row: row["lr"])
        mean = [row[name] for row in part]
        low, high = ([row[f"{name}_{end}"] for row in part] for end in ("low", "high"))
        bars = [
            [m - e for m, e in zip(mean, low, strict=True)],
            [e - m for m, e in zip(mean, high, strict=True)],
        ]
        lr = [row["lr"] for row in part]
        axis.errorbar(lr, mean, bars, color=style.OKABE_ITO[i], marker=style.MARKERS[i], label=RULES[rule])
    axis.set(xscale="log", yscale="log", xlabel="learning rate at the reference batch size")
    axis.set_ylabel("spread of log training loss" if name == "loss" else "spread of test error")
    if name == "error":
        percent(axis)
    axis.legend(loc="best")


def percent(axis: "Axes") -> None:
    """Label a logarithmic vertical axis in percent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def main(argv: list[str] | None = None) -> None:
    """Reduce, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.as_written([*args.batch, *args.steps, *args.decay, *args.invariance]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    groups = reduce({study: getattr(args, study) for study in STUDIES})
    style.apply()
    n_rows = [len(_panels(group["drawn"])) for group in groups]
    figure = plt.figure(figsize=(style.WIDTH, 2.5 * sum(n_rows) + 0.2))
    parts = figure.subfigures(len(groups), 1, height_ratios=n_rows, squeeze=False)[:, 0]
    for part, group in zip(parts, groups, strict=True):
        drawn, panels = group["drawn"], _panels(group["drawn"])
        for axes, kind in zip(part.subplots(len(panels), 2, squeeze=False), panels, strict=True):
            if kind == "errors":
                draw_errors(axes[0], drawn, ["batch", "steps"], "batch_size")
                draw_errors(axes[1], drawn, ["decay"], "weight_decay")
            else:
                draw_spreads(axes[0], drawn["invariance"], "loss")
                draw_spreads(axes[1], drawn["invariance"], "error")
        part.suptitle(group["title"], fontsize=9)
    style.save(figure, args.out)
    if args.numbers:
        write_json(args.numbers, {"groups": groups, "trains": TRAINS, "breaks": BREAKS})


def _panels(drawn: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rows of panels that a group needs."""
    errors = ["errors"] if drawn["batch"] or drawn["steps"] or drawn["decay"] else []
    return errors + (["spreads"] if drawn["invariance"] else [])


if __name__ == "__main__":
    run(main)
