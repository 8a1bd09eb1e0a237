"""One look for every figure: sizes for print, colours that colour-blind readers can tell apart, the same bytes."""

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from seaborn import FacetGrid

T = TypeVar("T")
OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
"""Colours of Okabe and Ito (2008), told apart with every common colour vision."""
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
"""One a series, so that a grey print still tells them apart."""
FLAT = {"markeredgewidth": 0}
"""For seaborn's lines with markers: without the white edge that hides short error bars."""
RANGE = ("pi", 100)
"""For seaborn's `errorbar`: from the lowest to the highest seed."""
WIDTH = 6.7
"""Width of the text block of the article, inches."""


def apply() -> None:
    """Set the theme of seaborn and of matplotlib underneath; call before a figure is made."""
    import matplotlib as mpl

    _import_seaborn()
    import seaborn as sns

    mpl.use("agg")
    mpl.rcdefaults()
    settings = {
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "legend.fontsize": 8,
        "legend.title_fontsize": 8,
        "legend.frameon": False,
        "font.size": 9,
        "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it: the same letters on every machine
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
        "lines.markeredgewidth": 0.9,
        "errorbar.capsize": 2,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 200,
        "svg.hashsalt": "adam-minibatch-noise",
    }
    sns.set_theme(context="paper", style="ticks", palette=OKABE_ITO, rc=settings)


def _import_seaborn() -> None:
    """Import seaborn without the parts of SciPy that it does without: half of the seconds that its import takes.

    It takes them for density estimates and clustered heat maps, which no figure here is.
    """
    spared = [name for name in ("scipy.stats", "scipy.cluster") if name not in sys.modules]
    missing: Any = dict.fromkeys(spared)  # None: not to be found
    sys.modules.update(missing)
    try:
        import seaborn  # noqa: F401
    finally:
        for name in spared:
            del sys.modules[name]


def colours(names: Iterable[T]) -> dict[T, str]:
    """Give each name a colour, the same for the same order: seaborn's `palette`."""
    return dict(zip(names, itertools.cycle(OKABE_ITO), strict=False))


def markers(names: Iterable[T]) -> dict[T, str]:
    """Give each name a marker, the same for the same order: seaborn's `markers`."""
    return dict(zip(names, itertools.cycle(MARKERS), strict=False))


def facets(data: "pd.DataFrame", **settings: Any) -> "FacetGrid":
    """Return seaborn's grid of panels, laid out as every other figure is.

    Parameters
    ----------
    data : pandas.DataFrame
    **settings
        Of `seaborn.FacetGrid`.
    """
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(
        {"figure.constrained_layout.use": False}
    ):  # the grid lays itself out while it is drawn
        return sns.FacetGrid(data, **settings)


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
    if not figure.get_constrained_layout():  # of seaborn's grids
        figure.set_layout_engine("constrained")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(_rounded(part.bbox_relative.get_points()))
    for axes in figure.axes:
        axes.set_position(_rounded(axes.get_position(original=True).bounds))


def _rounded(numbers):
    """Round to 6 digits, not at the half, where layouts made of round numbers like to fall, but at 1 - 1/pi."""
    return np.floor(1e6 * np.asarray(numbers) + 1 / np.pi) / 1e6
