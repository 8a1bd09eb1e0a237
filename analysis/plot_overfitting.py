"""Draw what the study of the best betas found, a panel a kind of data and noise.

--figure bests: the best beta2 against the batch size, at fixed and at tuned learning rates; gains: what it gains over
the default; rules: what it costs to follow the theory or a rule of the field; mechanism: the chain from C_total over
sharpness to the validation loss; maps: the loss over both betas at tuned learning rates, maps_fixed: at one; text: the
perplexity of a Transformer-XL against beta2. Bars are 95 % intervals over seeds, by bootstrap, for text Student's.
Recorded runs are drawn where there are any, and those of this configuration otherwise.
"""

import argparse
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lists = dict[str, "pd.DataFrame"]
FIGURES = ("bests", "gains", "rules", "mechanism", "maps", "maps_fixed", "text")
FIXED_LR = 3e-3
"""Of the maps at one learning rate."""
ONLY_COMPARED = ("digits-wrong-10", "words-frozen", "words-one-hot", "digits-replacement")
"""Variants that R10 compares and no other figure shows."""
N_COLUMNS = 3
HEIGHT = 1.5
TUNED = "tuned"
TEXT_TOP = 26
"""End of the axis of the Transformer-XL, in percent."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_overfitting", description=__doc__)
    parser.add_argument("--figure", choices=FIGURES, required=True, help="which")
    parser.add_argument("--verdicts", required=True, metavar="JSON", help="of analysis.overfitting_verdicts")
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def panels_of(names: list[str]) -> tuple["Figure", list["Axes"]]:
    """Return a figure with a panel a name, titled, those that are left over removed."""
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    n_rows = -(-len(names) // N_COLUMNS)
    figure, grid = plt.subplots(
        n_rows, N_COLUMNS, figsize=(style.WIDTH, HEIGHT * n_rows + 0.4), squeeze=False, sharey=True
    )
    axes = list(grid.ravel())
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names, strict=False):
        axis.set_title(name, fontsize=8)
    for below, last in zip(axes, axes[N_COLUMNS:], strict=False):
        if not last.figure:
            below.xaxis.set_tick_params(labelbottom=True)
    return figure, axes[: len(names)]


def is_first(axis: "Axes") -> bool:
    """Say whether a panel stands at the left."""
    place = axis.get_subplotspec()
    return place is not None and place.is_first_col()


def draw_bests(lists: Lists) -> "Figure":
    """Draw the best beta2 against the batch size: grey at fixed learning rates, black tuned; and published data."""
    import numpy as np

    from analysis.drawing import axes, outside, style

    bests, variants = lists["bests"].query("curve == 'beta2'"), titles_of(lists, "bests")
    slopes = lists["slopes"].query("curve == 'beta2' and lr == @TUNED").set_index("variant")
    figure, panels = panels_of([*variants.values(), *outside.TITLES])
    rates = sorted(rate for rate in bests["lr"].unique() if rate != TUNED)
    palette, marks = style.colours(rates), style.markers(rates)
    critical = critical_batch_sizes(lists)
    for axis, variant in zip(panels, variants, strict=False):
        part = bests[(bests["variant"] == variant) & bests["best"].notna()]
        for rate in rates:
            rows = part[part["lr"] == rate]
            axis.plot(
                rows["batch_size"] * 1.07 ** (rates.index(rate) + 1), axes.memory(rows["best"]), marks[rate], ms=3.5,
                color=palette[rate], ls=":", lw=0.9, label=f"learning rate {rate:g}",
            )  # fmt: skip
        rows = part[part["lr"] == TUNED]
        axis.plot(rows["batch_size"], axes.memory(rows["best"]), "k-o", ms=4.5, label="tuned")
        ends = rows.assign(low=axes.memory(rows["low"]), high=axes.memory(rows["high"]))
        axes.bars(axis, ends, "batch_size", ("low", "high"), "black")
        said = slopes.loc[variant]
        text = (
            f"slope {said['slope']:.2f} [{said['low']:.2f}, {said['high']:.2f}]"
            if np.isfinite(said["slope"])
            else "no minimum at most batch sizes"
        )
        axis.annotate(text, (0.5, 1.0), xycoords="axes fraction", fontsize=6.5, ha="center", va="top")
        sizes = bests.loc[bests["variant"] == variant, "batch_size"]
        axis.set_xlim(sizes.min() / 1.6, sizes.max() * 1.6)
        if np.isfinite(critical.get(variant, np.nan)):
            axis.axvline(critical[variant], color="0.6", lw=0.8, ls="--")
    outside.draw_sweep(panels[-2])
    outside.draw_table(panels[-1])
    for axis in panels:
        axis.set(xscale="log", yscale="log", ylim=(1.6, 50000))
    for axis in panels:
        axes.beta_axis(axis, "beta2", "y")
        axes.log_axis(axis, "x")
        axis.set(xlabel="batch size", ylabel=r"best $\beta_2$" if is_first(axis) else "")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def draw_gains(lists: Lists) -> "Figure":
    """Draw the gain of the best beta2 over the default against the batch size, on validation and test samples."""
    import pandas as pd

    from analysis.drawing import axes, outside, style

    gains = lists["gains"].query("curve == 'beta2' and baseline == 0.999")
    variants = titles_of(lists, "gains")
    figure, panels = panels_of([*variants.values(), outside.TITLES[0]])
    names = {"min_valid_loss": "validation", "test_loss": "test"}
    palette, marks = style.colours(names), style.markers(names)
    for axis, variant in zip(panels, variants, strict=False):
        for shift, metric in zip((0.96, 1.05), names, strict=True):
            part = gains[(gains["variant"] == variant) & (gains["metric"] == metric) & gains["gain"].notna()]
            part = part.assign(place=part["batch_size"] * shift)
            axis.plot(part["place"], part["gain"], marks[metric], color=palette[metric], label=names[metric])
            axes.bars(axis, part, "place", ("low", "high"), palette[metric])
        sizes = gains.loc[gains["variant"] == variant, "batch_size"]
        axis.set_xlim(sizes.min() / 1.6, sizes.max() * 1.6)
    sweep = pd.read_csv(outside.SWEEP).pivot(index="batch_size", columns="beta2", values="bits_per_byte")
    panels[-1].plot(sweep.index, 100 * (1 - sweep.min(axis=1) / sweep[0.999]), "ks", ms=4.5)
    for axis in panels:
        axis.axhline(0, color="0.6", lw=0.7, zorder=0)
        axis.set_xscale("log")
        axes.log_axis(axis, "x")
        axis.set(xlabel="batch size", ylabel="gain over .999, %" if is_first(axis) else "")
    low, high = gains["gain"].quantile([0.02, 0.98])
    panels[0].set_ylim(min(-8, 1.5 * low), max(12, 1.5 * high))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def draw_rules(lists: Lists) -> "Figure":
    """Draw, for each rule, its rank correlation with the measured order of the betas, and the cost of following it."""
    rules = lists["rules"].query("curve == 'beta2'")
    figure, pair = _rows_of_points(
        rules, titles_of(lists, "rules"), "rule", ("rank_correlation", "rank_low", "rank_high"),
        ("regret", "regret_low", "regret_high"),
    )  # fmt: skip
    pair[0].set(xlabel="rank correlation with the measured order", xlim=(-1.05, 1.05))
    pair[1].set(xlabel=r"loss over that of the best $\beta_2$, %")
    pair[1].set_xscale("symlog", linthresh=3)
    pair[1].set_xlim(-0.3, None)
    ticks = [0, 1, 2, 3, 10, 30, 100, 300]
    pair[1].set_xticks([tick for tick in ticks if tick <= pair[1].get_xlim()[1]], labels=None)
    pair[1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def draw_mechanism(lists: Lists) -> "Figure":
    """Draw the rank correlations along the chain from C_total to the loss, for the curves of beta2 and of beta1."""
    links, variants = lists["links"], titles_of(lists, "links")
    parts = {curve: links[links["curve"] == curve] for curve in ("beta2", "beta1")}
    columns = ("rank_correlation", "low", "high")
    figure, pair = _rows_of_points(parts["beta2"], variants, "link", columns, columns, parts["beta1"])
    for axis, name in zip(pair, parts, strict=True):
        axis.set(xlabel=rf"rank correlation over $\beta_{name[-1]}$", xlim=(-1.05, 1.05))
    return figure


def draw_maps(lists: Lists, lr: float | str = TUNED) -> "Figure":
    """Draw the loss over both betas at a few batch sizes, with what the rule of thumb and the theory name."""
    import matplotlib.pyplot as plt

    from analysis.drawing import beta_maps, style

    if lists["cells"].empty:
        figure = plt.figure(figsize=(style.WIDTH, 0.5))
        figure.text(0.5, 0.5, "no pairs of betas off the curves are recorded", ha="center", va="center")
        return figure
    cells, thumb = (lists[name][lists[name]["lr"] == lr] for name in ("cells", "thumb"))
    return beta_maps.draw(cells, thumb, titles_of(lists, "cells"))


def draw_text(lists: Lists) -> "Figure":
    """Draw the perplexity of the Transformer-XL against beta2: a panel a batch size, a curve a learning rate."""
    import matplotlib.pyplot as plt

    from analysis.drawing import axes, style

    cells = lists.get("cells")
    if cells is None or cells.empty:
        figure = plt.figure(figsize=(style.WIDTH, 0.5))
        figure.text(0.5, 0.5, "no runs of the Transformer-XL are recorded", ha="center", va="center")
        return figure
    cells = cells[(cells["dropout"] == 0) & (cells["beta1"] == 0.9)]
    n_betas = cells.groupby(["batch_size", "lr"])["beta2"].transform("nunique")
    cells = cells[n_betas > 1].assign(memory=axes.memory(cells["beta2"]))
    sizes, rates = sorted(cells["batch_size"].unique()), sorted(cells["lr"].unique())
    palette, marks = style.colours(rates), style.markers(rates)
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(style.WIDTH, 2.75), sharex=True, sharey=True, squeeze=False
    )
    for axis, size in zip(panels[0], sizes, strict=True):
        part = cells[cells["batch_size"] == size]
        best = part.loc[part["perplexity"].idxmin()]
        for rate in rates:
            rows = part[part["lr"] == rate].copy()
            for name in ("perplexity", "low", "high"):
                rows[name] = 100 * (rows[name] / best["perplexity"] - 1)
            axis.plot(
                rows["memory"], rows["perplexity"], f"{marks[rate]}-", ms=3.5, lw=1.1, color=palette[rate],
                label=f"{rate:g}",
            )  # fmt: skip
            axes.bars(axis, rows, "memory", ("low", "high"), palette[rate])
        axis.plot(best["memory"], 0, "o", ms=11, mfc="none", color="black", mew=1, clip_on=False)
        axis.axhline(0, color="0.6", lw=0.7, zorder=0)
        axis.set_title(f"batch size {size}" + (" (all)" if size == best["n_windows"] else ""), fontsize=8.5)
    for axis in panels[0]:
        axis.set(
            xscale="log", xlim=(cells["memory"].min() / 1.6, cells["memory"].max() * 1.6), ylim=(-2, TEXT_TOP)
        )
        axes.beta_axis(axis, "beta2", betas=(0.9, 0.99, 0.999))
    panels[0, 0].set_ylabel("perplexity above the best, %")
    handles = {
        label: handle
        for axis in panels[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        if len(handle.get_xdata())
    }
    order = [f"{rate:g}" for rate in rates]
    figure.legend(
        [handles[label] for label in order],
        order,
        loc="outside lower center",
        ncols=len(order),
        title="learning rate",
    )
    return figure


def _rows_of_points(
    left: "pd.DataFrame", variants: dict[str, str], rows: str, of_left: Any, of_right: Any, right: Any = None
) -> tuple["Figure", Any]:
    """Draw two panels with a row a value of `rows` and in it a point with its interval a variant."""
    import matplotlib.pyplot as plt
    import numpy as np

    from analysis.drawing import style

    names = list(dict.fromkeys(left[rows]))
    figure, pair = plt.subplots(1, 2, figsize=(style.WIDTH, 0.4 * len(names) + 1.3), sharey=True)
    palette, marks = style.colours(variants), style.markers(variants)
    for axis, table, (middle, low, high) in zip(
        pair, (left, left if right is None else right), (of_left, of_right), strict=True
    ):
        for i, (variant, title) in enumerate(variants.items()):
            part = table[(table["variant"] == variant) & table[middle].notna()].set_index(rows)
            place = np.array([names.index(name) for name in part.index]) + 0.7 * (
                (i + 0.5) / len(variants) - 0.5
            )
            ends = np.clip(np.array([part[middle] - part[low], part[high] - part[middle]], float), 0, None)
            axis.errorbar(
                part[middle], place, xerr=ends, fmt=marks[variant], color=palette[variant], ms=3.5, elinewidth=0.9,
                capsize=0, label=title,
            )  # fmt: skip
        axis.axvline(0, color="0.6", lw=0.7, zorder=0)
        axis.set_yticks(range(len(names)), [in_math(name) for name in names])
        for border in np.arange(0.5, len(names) - 1):
            axis.axhline(border, color="0.9", lw=0.6, zorder=0)
    pair[0].invert_yaxis()
    handles, labels = pair[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure, pair


def in_math(name: str) -> str:
    """Set the symbols of a name as formulas."""
    symbols = {
        "C_total": r"$C_{\rm total}$",
        "|g|_1": r"$\|\nabla L\|_1$",
        "beta1 = beta2": r"$\beta_1 = \beta_2$",
    }
    for plain, formula in symbols.items():
        name = name.replace(plain, formula)
    return name


def titles_of(lists: Lists, name: str) -> dict[str, str]:
    """Return the titles of the variants that a list has rows of, in the order of the study."""
    found = set(lists[name]["variant"])
    there = found.difference(ONLY_COMPARED) or found
    return {row.variant: row.title for row in lists["variants"].itertuples() if row.variant in there}


def critical_batch_sizes(lists: Lists) -> dict[str, float]:
    """Return the batch size at which the measured noise-to-signal ratio of the defaults crosses 1/2, where it does."""
    import numpy as np

    found = {}
    for variant, part in lists["noise"].dropna().groupby("variant"):
        part = part[part["lam"] > 0].sort_values("batch_size")
        above = part["lam"].to_numpy() > 0.5
        if above.any() and not above.all():
            last = int(np.flatnonzero(above)[-1])
            if last + 1 < len(part):
                ends = part.iloc[last : last + 2]
                share = np.log(ends["lam"].iloc[0] / 0.5) / np.log(ends["lam"].iloc[0] / ends["lam"].iloc[1])
                sizes = np.log(ends["batch_size"].to_numpy(float))
                found[variant] = float(np.exp(sizes[0] + share * (sizes[1] - sizes[0])))
    return found


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    import pandas as pd

    from analysis.drawing import style
    from analysis.inputs import tables, verdicts

    part = verdicts.read(args.verdicts, verdicts.TEXT if args.figure == "text" else "")[1]
    style.apply()
    with tables.refuse_malformed([args.verdicts]):
        lists = {name: pd.DataFrame(rows) for name, rows in part.items()}
        draw: dict[str, Callable[[Lists], Figure]] = {
            "bests": draw_bests,
            "gains": draw_gains,
            "rules": draw_rules,
            "mechanism": draw_mechanism,
            "maps": draw_maps,
            "text": draw_text,
            "maps_fixed": functools.partial(draw_maps, lr=FIXED_LR),
        }
        figure = draw[args.figure](lists)
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
