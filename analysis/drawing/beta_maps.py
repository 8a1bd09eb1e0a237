"""Maps of a loss over both betas: a row a kind of data and noise, a column a batch size."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT = 100.0
"""Largest loss over the best pair's that has a colour of its own, percent; the scale is that of square roots."""


def draw(cells: "pd.DataFrame", thumb: "pd.DataFrame", titles: dict[str, str]) -> "Figure":
    """Draw the maps.

    Parameters
    ----------
    cells, thumb : pandas.DataFrame
        Of `analysis.reductions.overfitting.maps`, at one learning rate.
    titles : dict of str to str
        Of the variants, in their order.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import PowerNorm
    from matplotlib.lines import Line2D

    from analysis.drawing import style

    n_columns = int(cells.groupby("variant")["batch_size"].nunique().max())
    figure, grid = plt.subplots(
        len(titles), n_columns, figsize=(style.WIDTH, 1.12 * len(titles) + 0.95), squeeze=False
    )
    norm = PowerNorm(0.5, vmin=0, vmax=LIMIT, clip=True)
    for row, (variant, title) in zip(grid, titles.items(), strict=True):
        own = cells[cells["variant"] == variant]
        sizes = sorted(own["batch_size"].unique())
        for axis, size in zip(row, sizes, strict=False):
            said = thumb[(thumb["variant"] == variant) & (thumb["batch_size"] == size)].set_index("quantity")
            image = _draw_one(axis, own[own["batch_size"] == size], norm)
            rank = said.loc["rank correlation, C_total"]
            of_size = (
                "full batch" if own["lam"][own["batch_size"] == size].max() == 0 else f"batch size {size}"
            )
            axis.set_title(f"{of_size}, ρ = {rank['value']:+.2f}".replace("-", "−"), fontsize=8)
        for axis in row[len(sizes) :]:
            axis.remove()
        wrapped = title.replace(", ", ",\n")
        row[0].set_ylabel(f"{wrapped}\n({int(own['n_seeds'].iloc[0])} seeds)\n" + r"$\beta_1$", fontsize=8)
    for column in grid.T:
        column[-1].set_xlabel(r"$\beta_2$")
        labels = [[label.get_text() for label in axis.get_xticklabels()] for axis in column if axis.figure]
        for axis, own, below in zip(column, labels, labels[1:], strict=False):
            axis.tick_params(labelbottom=own != below)  # once below maps of the same betas
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=30, label="loss over that of the best pair, %")
    bar.set_ticks([0, 1, 3, 10, 30, 100], labels=["0", "1", "3", "10", "30", f"≥ {LIMIT:g}"])
    bar.minorticks_off()
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, mfc=face, ms=size, label=label)
        for marker, colour, face, size, label in MARKS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


MARKS = (
    ("*", "black", "white", 8, "best pair"),
    (".", "black", "black", 4, "not told from the best"),
    ("s", "black", "none", 6.5, r"$\beta_1 = \beta_2$"),
    ("D", "#D55E00", "none", 6, "default (0.9, 0.999)"),
    ("^", "#D55E00", "#D55E00", 4.5, r"largest $C_{\rm total}$"),
    ("x", "0.4", "none", 4, "unfinished or diverged"),
)
"""Marker, colour, face, size and label of what is marked."""


def _draw_one(axis: "Axes", cells: "pd.DataFrame", norm):
    import matplotlib as mpl

    beta1, beta2 = (sorted(cells[name].unique()) for name in ("beta1", "beta2"))
    excess = cells.pivot(index="beta1", columns="beta2", values="excess").to_numpy(float)
    cmap = mpl.colormaps["viridis_r"].with_extremes(bad="0.93")
    edges = np.arange(len(beta2) + 1) - 0.5, np.arange(len(beta1) + 1) - 0.5
    image = axis.pcolormesh(*edges, np.ma.masked_invalid(excess), norm=norm, cmap=cmap, rasterized=True)
    axis.set_xticks(range(len(beta2)), [_short(beta) for beta in beta2], rotation=90, fontsize=6.5)
    axis.set_yticks(range(len(beta1)), [_short(beta) for beta in beta1], fontsize=6.5)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    favourite = cells.loc[cells["c_total"].idxmax()] if cells["c_total"].notna().any() else None
    for cell in cells.itertuples():
        if favourite is not None and (cell.beta1, cell.beta2) == (favourite["beta1"], favourite["beta2"]):
            marks = [4]
        else:
            marks = []
        marks += {"best": [0], "alike": [1], "unfinished": [5]}.get(cell.status, [])
        marks += [2] if cell.beta1 == cell.beta2 else []
        marks += [3] if (cell.beta1, cell.beta2) == (0.9, 0.999) else []
        for k in marks:
            marker, colour, face, size, _ = MARKS[k]
            shift = 0.28 if k == 4 else 0
            axis.plot(
                beta2.index(cell.beta2) + shift, beta1.index(cell.beta1) - shift, marker, color=colour, mfc=face,
                ms=size, mew=0.9, clip_on=False,
            )  # fmt: skip
    return image


def _short(beta: float) -> str:
    return f"{beta:g}".removeprefix("0") if beta else "0"
