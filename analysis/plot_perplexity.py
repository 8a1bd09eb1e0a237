"""Draw minimal validation perplexity against beta2, one curve a batch size (Figure 2)."""

import argparse
from typing import TYPE_CHECKING

from sim.records import InputError, Parser, run

if TYPE_CHECKING:
    import pandas as pd


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_perplexity", description=__doc__)
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="written by train.run")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write the means that are drawn")
    return parser


def minima(table: "pd.DataFrame") -> list[dict[str, float]]:
    """Minimal validation perplexity of each setting, over seeds.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `train.run`, one an evaluation.

    Returns
    -------
    list of dict
        corpus, lr, batch_size, beta1, beta2, n_seeds, n_diverged, mean, low, high (over the seeds that did not
        diverge; nan where all did), epoch (mean of that of the minimum).
    """
    import numpy as np

    rows = []
    for key, part in table.groupby(["corpus", "lr", "batch_size", "beta1", "beta2"], sort=True):
        best, epochs, n_diverged = [], [], 0
        for _, one in part.groupby("seed", sort=True):
            if (one["status"] == "diverged").any():
                n_diverged += 1
                continue
            i = one["valid_perplexity"].idxmin()
            best.append(one.loc[i, "valid_perplexity"])
            epochs.append(one.loc[i, "epoch"])
        values = np.array(best or [np.nan])
        row = dict(zip(["corpus", "lr", "batch_size", "beta1", "beta2"], key, strict=True))
        row |= {"n_seeds": len(best) + n_diverged, "n_diverged": n_diverged, "mean": float(values.mean())}
        rows.append(
            row | {"low": values.min(), "high": values.max(), "epoch": float(np.mean(epochs or [np.nan]))}
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Reduce, draw, write."""
    args = parser().parse_args(argv)
    import matplotlib.pyplot as plt
    import pandas as pd

    from analysis import style, tables
    from sim.records import write_csv

    columns = ["corpus", "lr", "batch_size", "beta1", "beta2", "seed", "epoch", "valid_perplexity", "status"]
    rows = minima(tables.read(args.tables, columns))
    frame = pd.DataFrame(rows)
    if frame["corpus"].nunique() > 1:
        raise InputError(f"the tables hold {frame['corpus'].nunique()} corpora, allowed: one")
    if args.summary:
        write_csv(args.summary, rows)
    style.apply()
    groups = list(frame.groupby(["lr", "batch_size"]))
    figure, axes = plt.subplots(1, len(groups), figsize=(style.WIDTH, 2.6), squeeze=False, sharex=True)
    for i, (axis, ((lr, batch_size), part)) in enumerate(zip(axes[0], groups, strict=True)):
        part = part.sort_values("beta2").dropna(subset="mean")
        memory, colour = 1 / (1 - part["beta2"]), style.OKABE_ITO[i % len(style.OKABE_ITO)]
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        axis.errorbar(memory, part["mean"], spread, marker=style.MARKERS[i], color=colour)
        best = part.loc[part["mean"].idxmin()]
        axis.axvline(1 / (1 - best["beta2"]), color="0.6", lw=0.8, ls=":", zorder=0)
        axis.annotate(
            rf"best $\beta_2$ = {best['beta2']:g}",
            (0.5, 0.95),
            xycoords="axes fraction",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        axis.margins(y=0.2)
        axis.set(xscale="log", title=f"batch size {batch_size}, lr {lr:g}", xlabel=r"$\beta_2$")
        axis.set_xticks([10, 100, 1000], ["0.9", "0.99", "0.999"])
        axis.minorticks_off()
    n_seeds = int(frame["n_seeds"].min())
    axes[0, 0].set_ylabel(
        f"minimal validation perplexity\n(mean and range of {n_seeds} seed{'s' * (n_seeds > 1)})"
    )
    figure.suptitle(f"Transformer-XL on {frame['corpus'].iloc[0]}", fontsize=9)
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
