r"""Draw the measured best beta2 against batch size, with what the theory expects at the measured noise scale.

Bars: values that the runs cannot tell from the best (`analysis.best_betas`). Lines: the beta2 that maximises C_total at
the measured B_simple, in the limit n -> infinity (`theory.c_total`) and exactly at the end of the epoch of the
minimum (`expansion.second_order`). Strips on top: the critical batch size for the smallest, the middle and
the largest B_simple. In the limit it is where lam = 1/2 (`theory.critical_batch_size`), exactly the smallest batch
size from which on C_total falls with beta2 (`turned_at` of `sim.turning`).

B_simple is taken near the least validation perplexity (`analysis.reductions.noise_scales`).
"""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.files import write_json
from common.settings import BETA

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from adam_minibatch_noise.theory import Array
    from analysis.reductions.noise_scales import NoiseScale

COLUMNS = ["lr", "batch_size", "status", "best_beta", "beta_low", "beta_high", "epoch", "n_windows"]
LIMIT, EXACT = "limit", "exact"
N_CURVE, N_BETAS = 80, 45
"""Batch sizes and betas of the curves."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_best_beta2", description=__doc__)
    parser.add_argument("--best", required=True, metavar="CSV", help="written by analysis.best_betas")
    parser.add_argument(
        "--noise-scale", nargs="*", default=[], metavar="CSV", help="written by train.noise_scale"
    )
    parser.add_argument("--beta1", type=BETA, default=0.9, help="of the runs")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="JSON", help="also write noise scale and critical batch sizes")
    return parser


def critical_batch_sizes(
    noise: "NoiseScale", n_samples: int, n_epochs: int, beta1: float, min_batch_size: int
) -> dict[str, list[float | None]]:
    """Critical batch sizes of both theories at the three noise scales.

    Parameters
    ----------
    noise : NoiseScale
    n_samples, n_epochs : int
    beta1 : float
    min_batch_size : int
        Smallest looked at.

    Returns
    -------
    dict
        `LIMIT` and `EXACT`: low, middle, high; None where C_total does not turn at a batch size that was looked at.
    """
    from adam_minibatch_noise.theory import critical_batch_size
    from sim import turning

    scales = list(asdict(noise).values())
    flags = {"n-samples": [n_samples], "noise-scales": scales, "n-epochs": [n_epochs], "beta1": [beta1]}
    flags["min-batch-size"] = [min_batch_size]
    args = turning.parser().parse_args(
        [word for name, values in flags.items() for word in (f"--{name}", *map(str, values))]
    )
    exact = turning.turning_rows("beta2", args, lambda n_steps: None)
    return {
        LIMIT: [float(critical_batch_size(n_samples, scale, 0.5)) for scale in scales],
        EXACT: [row["turned_at_exact"] for row in exact],
    }


def expected_best(
    noise_scale: float, sizes: list[int], betas: "Array", n_samples: int, n_epochs: int, beta1: float
) -> dict[str, "Array"]:
    """Return the beta2 of largest C_total at each batch size, for both theories, (n_sizes,) each.

    Parameters
    ----------
    noise_scale : float
    sizes : list of int
    betas : (n_betas,) ndarray
        Values of beta2 to choose from.
    n_samples, n_epochs : int
    beta1 : float
    """
    import numpy as np

    from adam_minibatch_noise.theory import c_total
    from sim.turning import coefficients, epoch_geometry

    best: dict[str, list[float]] = {LIMIT: [], EXACT: []}
    beta1s = np.full_like(betas, beta1)
    for size in sizes:
        n_batches, v, correlation = epoch_geometry(n_samples, size)
        forward, noise = coefficients(beta1s, betas, n_batches, n_epochs)
        lam = v * noise_scale
        best[LIMIT].append(betas[np.argmax(c_total(beta1, betas, lam))])
        best[EXACT].append(betas[np.argmax(forward + lam * (noise[0] + correlation * noise[1]))])
    return {theory: np.array(values) for theory, values in best.items()}


def draw_measured(axis: "Axes", table: "pd.DataFrame") -> None:
    """Draw the best of each cell, its bar where there is one; a hollow mark below where nothing is measured."""
    from analysis.drawing import style

    rates = sorted(table["lr"].unique(), reverse=True)
    for i, rate in enumerate(rates):
        part = table[table["lr"] == rate]
        colour, marker = style.OKABE_ITO[i], style.MARKERS[i]
        place = 1.05 ** (i - (len(rates) - 1) / 2)  # beside each other
        done = part.dropna(subset="best_beta")
        x, memory = done["batch_size"] * place, 1 / (1 - done["best_beta"])
        low, high = (1 / (1 - done[name].fillna(done["best_beta"])) for name in ("beta_low", "beta_high"))
        axis.errorbar(
            x,
            memory,
            [memory - low, high - memory],
            ls="",
            marker=marker,
            color=colour,
            label=f"lr {rate:.3g}",
        )
        rest = part[part["best_beta"].isna()]
        heights = [0.03 + 0.04 * i] * len(rest)
        axis.plot(
            rest["batch_size"] * place,
            heights,
            marker,
            mfc="none",
            color=colour,
            mew=0.7,
            transform=axis.get_xaxis_transform(),
        )


def draw_theory(axes: "list[Axes]", table: "pd.DataFrame", noise: "NoiseScale", beta1: float) -> dict:
    """Draw lines and strips of both theories; return what the strips show.

    Parameters
    ----------
    axes : list of two matplotlib.axes.Axes
        Of the strips, of the lines.
    table : pandas.DataFrame
        Of `analysis.best_betas`, at least one row with a best.
    noise : NoiseScale
    beta1 : float
    """
    import numpy as np

    n_samples, n_epochs = int(table["n_windows"].max()), max(1, round(table["epoch"].median()))
    low, high = 0.8 * table["batch_size"].min(), min(1.25 * table["batch_size"].max(), n_samples)
    critical = critical_batch_sizes(noise, n_samples, n_epochs, beta1, max(1, int(low / 2)))
    ends = [value for values in critical.values() for value in values if value]
    ends = [max(1, min(low, 0.8 * min(ends))), min(n_samples, max(high, 1.25 * max(ends)))]
    sizes = np.unique(np.geomspace(*ends, N_CURVE).astype(int)).tolist()
    betas = 1 - np.geomspace(0.231, 0.001, N_BETAS)
    lines = expected_best(noise.middle, sizes, betas, n_samples, n_epochs, beta1)
    labels = {LIMIT: "n → ∞", EXACT: f"exact, epoch {n_epochs}"}
    for i, (theory, line, colour, width) in enumerate(((EXACT, "-", "0.65", 3), (LIMIT, "--", "black", 1))):
        label = f"largest $C_{{total}}$, {labels[theory]}"
        axes[1].step(
            sizes, 1 / (1 - lines[theory]), line, where="mid", color=colour, lw=width, label=label, zorder=1
        )
        found = [value for value in critical[theory] if value]
        if found:
            axes[0].plot([min(found), max(found)], [i, i], color=colour, lw=3, solid_capstyle="butt")
        if critical[theory][1]:
            axes[0].plot(critical[theory][1], i, "|", color=colour, ms=9, mew=2)
    axes[0].set_yticks([0, 1], [labels[EXACT], labels[LIMIT]], fontsize=7)
    return {"n_samples": n_samples, "n_epochs": n_epochs, "noise_scale": asdict(noise), "critical": critical}


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.as_written([args.best, *args.noise_scale]):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    from analysis.drawing import style
    from analysis.inputs import tables
    from analysis.reductions import noise_scales

    table = tables.read([args.best], [*COLUMNS, "swept"])
    if (table["swept"] != "beta2").any():
        raise InputError(f"{args.best}: sweeps {table['swept'].iloc[0]}, allowed: beta2")
    noise = noise_scales.near_minimum(noise_scales.read(args.noise_scale)) if args.noise_scale else None
    measured = table["best_beta"].notna().any()
    style.apply()
    figure, axes = plt.subplots(2, 1, figsize=(style.WIDTH, 3.6), sharex=True, height_ratios=[1, 6])
    draw_measured(axes[1], table)
    summary = draw_theory(list(axes), table, noise, args.beta1) if noise and measured else {}
    if not summary:
        axes[0].set_axis_off()
    axes[0].set(ylim=(-0.7, 1.7), title=_title(noise))
    axes[0].spines[["left", "bottom"]].set_visible(False)
    axes[0].tick_params(length=0, which="both")
    axes[1].set(
        xscale="log",
        yscale="log",
        xlabel="batch size (windows)",
        ylabel=r"best $\beta_2$",
        ylim=(1.6 if table["best_beta"].isna().any() else 3.5, 1300),
    )
    ticks = sorted(table["batch_size"].unique())
    axes[1].set_xticks(
        ticks, [f"full\n({tick})" if tick == table["n_windows"].max() else str(tick) for tick in ticks]
    )
    axes[1].set_yticks([5, 10, 100, 1000], ["0.8", "0.9", "0.99", "0.999"])
    axes[1].minorticks_off()
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    style.save(figure, args.out)
    if args.summary:
        write_json(args.summary, summary)


def _title(noise: "NoiseScale | None") -> str:
    if noise is None:
        return r"$B_{simple}$ not yet measured"
    spread = f"{noise.middle:.3g} ({noise.low:.3g} to {noise.high:.3g})"
    return rf"critical batch size at $B_{{simple}}$ = {spread} windows"


if __name__ == "__main__":
    run(main)
