"""Draw C_total against beta2 for several noise-to-signal ratios, and as a map over beta1 and beta2 (Figure 1)."""

import argparse

from common.cli import Parser, run
from common.settings import BETA, NONNEGATIVE


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


def main(argv: list[str] | None = None) -> None:
    """Draw and write the figure."""
    args = parser().parse_args(argv)
    import matplotlib.pyplot as plt
    import numpy as np

    from adam_minibatch_noise.theory import c_total
    from analysis import style

    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.WIDTH, 2.5), width_ratios=[1.25, 1, 1])
    memory = np.logspace(1, 3, 400)  # 1/(1 - beta2), steps
    for lam, colour in zip(args.lams, style.OKABE_ITO, strict=False):
        values = c_total(args.beta1, 1 - 1 / memory, lam)
        axes[0].plot(memory, values, color=colour)
        axes[0].annotate(
            rf"$\lambda$={lam:g}",
            (memory[-1], values[-1]),
            (3, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )
    axes[0].axhline(0, color="0.7", lw=0.8, zorder=0)
    axes[0].set(xscale="log", yscale="symlog", title=f"$\\beta_1$ = {args.beta1:g}")
    axes[0].set(xlabel=r"$\beta_2$", ylabel=r"$C_{total}$")
    axes[0].set_xticks([10, 100, 1000], ["0.9", "0.99", "0.999"])

    first, second = np.meshgrid(np.logspace(0.5, 2, 241), np.logspace(0.5, 3, 241))
    norm = plt.matplotlib.colors.SymLogNorm(linthresh=1, vmin=-1000, vmax=1000)
    for axis, lam in zip(axes[1:], args.map_lams, strict=True):
        values = c_total(1 - 1 / first, 1 - 1 / second, lam)
        image = axis.pcolormesh(first, second, values, norm=norm, cmap="PuOr", rasterized=True)
        axis.contour(first, second, values, levels=[0], colors="black", linewidths=1)
        axis.set(xscale="log", yscale="log", title=rf"$\lambda$ = {lam:g}", xlabel=r"$\beta_1$")
        axis.set_xticks([10, 100], ["0.9", "0.99"])
        axis.set_yticks([10, 100, 1000], ["0.9", "0.99", "0.999"])
        axis.minorticks_off()
    axes[1].set_ylabel(r"$\beta_2$")
    bar = figure.colorbar(image, ax=axes[2], ticks=[-1000, -10, 0, 10, 1000])
    bar.set_label(r"$C_{total}$  (black line: 0)")
    style.save(figure, args.out)


if __name__ == "__main__":
    run(main)
