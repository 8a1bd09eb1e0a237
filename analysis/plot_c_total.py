"""Draw C_total against beta2 for several noise-to-signal ratios, and as a map over beta1 and beta2 (Figure 1)."""

import argparse
from typing import TYPE_CHECKING

from common.cli import Parser, run
from common.settings import BETA, NONNEGATIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_c_total", description=__doc__)
    parser.add_argument("--beta1", type=BETA, default=0.9, help="of the left panel")
    lams = [0.0, 0.4, 0.5, 0.6, 1.5]
    parser.add_argument("--lams", type=NONNEGATIVE, nargs="+", default=lams, help="ratios of the left panel")
    parser.add_argument(
        "--map-lams", type=NONNEGATIVE, nargs=2, default=[0.25, 1.5], help="ratios of the maps"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    return parser


def draw_curves(axis: "Axes", beta1: float, lams: list[float]) -> None:
    """Draw C_total against beta2, a curve a ratio, each named at its end."""
    import numpy as np
    import pandas as pd
    import seaborn as sns

    from adam_minibatch_noise.theory import c_total
    from analysis.drawing import axes, style

    beta2 = 1 - 1 / np.logspace(1, 3, 400)
    rows = pd.concat(
        pd.DataFrame({"lam": lam, "memory": axes.memory(beta2), "c_total": c_total(beta1, beta2, lam)})
        for lam in lams
    )
    palette = style.colours(lams)
    sns.lineplot(
        rows, x="memory", y="c_total", hue="lam", palette=palette, errorbar=None, legend=False, ax=axis
    )
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_yscale("symlog")
    axis.set(xlim=(10, 1000), title=rf"$\beta_1$ = {beta1:g}", ylabel=r"$C_{total}$")
    axis.margins(y=0.08)
    axes.beta_axis(axis, "beta2", betas=(0.9, 0.99, 0.999))
    last = rows.groupby("lam", sort=False).last()
    axes.label_ends(
        axis,
        {
            rf"$\lambda$ = {lam:g}": (row["memory"], row["c_total"], palette[lam])
            for lam, row in last.iterrows()
        },
    )


def draw_map(axis: "Axes", lam: float) -> "QuadMesh":
    """Draw C_total over both betas, with the line on which it is 0; return what a colour bar needs."""
    import matplotlib as mpl
    import numpy as np

    from adam_minibatch_noise.theory import c_total
    from analysis.drawing import axes

    first, second = np.meshgrid(np.logspace(0.5, 2, 241), np.logspace(0.5, 3, 241))
    norm = mpl.colors.SymLogNorm(linthresh=1, vmin=-1000, vmax=1000)
    values = c_total(1 - 1 / first, 1 - 1 / second, lam)
    image = axis.pcolormesh(first, second, values, norm=norm, cmap="PuOr", rasterized=True)
    axis.contour(first, second, values, levels=[0], colors="black", linewidths=1)
    axes.beta_axis(axis, "beta1", betas=(0.9, 0.99))
    axes.beta_axis(axis, "beta2", "y", betas=(0.9, 0.99, 0.999))
    axis.set_title(rf"$\lambda$ = {lam:g}")
    return image


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    style.apply()
    figure, panels = plt.subplots(1, 3, figsize=(style.WIDTH, 2.5), width_ratios=[1.25, 1, 1])
    draw_curves(panels[0], args.beta1, args.lams)
    for axis, lam in zip(panels[1:], args.map_lams, strict=True):
        image = draw_map(axis, lam)
    panels[2].set_ylabel("")
    bar = figure.colorbar(image, ax=panels[2], ticks=[-1000, -10, 0, 10, 1000])
    bar.set_label(r"$C_{total}$  (black line: 0)")
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
