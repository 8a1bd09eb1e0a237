"""One look for every figure: sizes for print, colours that colour-blind readers can tell apart, the same bytes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
"""Colours of Okabe and Ito (2008), told apart with every common colour vision."""
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
"""One a series, so that a grey print still tells them apart."""
WIDTH = 6.7
"""Width of the text block of the article, inches."""


def apply() -> None:
    """Set matplotlib's defaults; call before a figure is made."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=OKABE_ITO),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "font.size": 9,
            "lines.linewidth": 1.4,
            "lines.markersize": 4,
            "errorbar.capsize": 2,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 200,
            "svg.hashsalt": "adam-minibatch-noise",
        }
    )


def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure by rename, the same bytes for the same data, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        Its suffix names the format: .svg, .pdf or .png.
    """
    import matplotlib.pyplot as plt

    from adam_minibatch_noise.errors import InputError
    from common.files import atomic_write

    form = Path(path).suffix[1:]
    metadata = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None, "ModDate": None},
        "png": {"Software": None},
    }
    if form not in metadata:
        raise InputError(f"--out is {path}, allowed: a name that ends in .{', .'.join(metadata)}")
    try:
        _fix_layout(figure)
        with atomic_write(path, "wb") as file:
            figure.savefig(file, format=form, metadata=metadata[form])
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: the tables cannot be drawn ({error})") from error
    finally:
        plt.close(figure)


def _fix_layout(figure):
    """Place everything to a millionth of the figure: the layout's solver rounds as its memory lies, each time anew."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(_rounded(part.bbox_relative.get_points()))
    for axes in figure.axes:
        axes.set_position(_rounded(axes.get_position(original=True).bounds))


def _rounded(numbers):
    """Round to 6 digits, not at the half, where layouts made of round numbers like to fall, but at 1 - 1/pi."""
    return np.floor(1e6 * np.asarray(numbers) + 1 / np.pi) / 1e6
