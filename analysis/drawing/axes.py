"""What several figures draw alike: axes of a beta, in percent, of powers; bars; labels at the ends of curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BETAS = (0.9, 0.99, 0.999, 0.97, 0.5, 0.8, 0.0)
"""Labelled on an axis of a beta, the first ones first, as far as there is room."""
NEAR = 0.13
"""Least distance of two labelled betas, as a share of the axis."""


def memory(beta: Any) -> Any:
    """Return 1/(1 - beta): the steps that an average remembers, which axes of a beta are logarithmic in."""
    return 1 / (1 - beta)


def beta_axis(
    axis: "Axes", name: str, which: str = "x", betas: Sequence[float] = BETAS, label: str | None = None
) -> None:
    """Label an axis of 1/(1 - beta) by beta itself, in equal steps of log(1 - beta).

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Its limits are kept.
    name : {"beta1", "beta2"}
    which : {"x", "y"}
    betas : sequence of float
        Values to label, the first ones first; those outside the limits or too near to an earlier one are left out.
    label : str, optional
        Default: the beta.
    """
    axis.set(**{f"{which}scale": "log"})
    low, high = sorted(axis.get_xlim() if which == "x" else axis.get_ylim())
    shown: list[float] = []
    for beta in betas:
        inside = low * (1 - 1e-9) <= memory(beta) <= high * (1 + 1e-9)
        gaps = [abs(np.log(memory(beta) / memory(other))) for other in shown]
        if inside and min(gaps, default=np.inf) >= NEAR * np.log(high / low):
            shown.append(beta)
    (axis.set_xticks if which == "x" else axis.set_yticks)(
        [memory(beta) for beta in shown], [f"{beta:g}" for beta in shown]
    )
    no_minor_ticks(axis, which)
    axis.set(**{f"{which}label": rf"$\beta_{name[-1]}$" if label is None else label})


def no_minor_ticks(axis: "Axes", which: str = "x") -> None:
    """Leave out the ticks between labelled ones, of one direction alone."""
    from matplotlib.ticker import NullLocator

    (axis.xaxis if which == "x" else axis.yaxis).set_minor_locator(NullLocator())


def log_axis(axis: "Axes", which: str = "y", percent: bool = False) -> None:
    """Label a logarithmic axis at powers of ten, and at 1, 2 and 5 times them where there are few.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    which : {"x", "y"}
    percent : bool
        Labels in percent.
    """
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator

    axis.set(**{f"{which}scale": "log"})
    side = axis.xaxis if which == "x" else axis.yaxis
    low, high = sorted(axis.get_xlim() if which == "x" else axis.get_ylim())
    narrow = high < 60 * low
    side.set_major_locator(
        LogLocator(10, subs=(1, 2, 5) if narrow else (1,), numticks=5 if which == "x" else 9)
    )
    plain = narrow and low > 1e-4 and high < 1e5
    if percent or plain:
        factor, sign = (100, " %") if percent else (1, "")
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{factor * value:.4g}{sign}"))
    else:
        side.set_major_formatter(
            LogFormatterSciNotation(10, labelOnlyBase=False, minor_thresholds=(np.inf, np.inf))
        )
    no_minor_ticks(axis, which)


def counts_axis(axis: "Axes", values: Sequence[float], labels: Sequence[str] = (), most: int = 5) -> None:
    """Label a logarithmic axis of x at the values that occur, in small letters if they are more than `most`."""
    axis.set_xscale("log")
    texts = list(labels) or [f"{value:g}" for value in values]
    axis.set_xticks(list(values), texts, fontsize=8 if len(values) <= most else 6.5)
    no_minor_ticks(axis)


def bars(axis: "Axes", rows: "pd.DataFrame", x: str, ends: tuple[str, str], colour: str, **look: Any) -> None:
    """Draw vertical bars whose ends a reduction computed, over what seaborn drew of the same rows.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : pandas.DataFrame
        No bar where an end is nan.
    x : str
        Column of the places.
    ends : (str, str)
        Columns of the lower and the upper ends.
    colour : str
    **look
        Of `Axes.errorbar`.
    """
    low, high = (rows[name].astype(float) for name in ends)
    middle = (low + high) / 2
    shown: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.0, "zorder": 2} | look
    axis.errorbar(rows[x], middle, (high - low) / 2, **shown)


def label_ends(axis: "Axes", ends: Mapping[str, tuple[float, float, str]], gap: float = 10.0) -> None:
    """Write names beside the ends of curves, one above the other where they would meet.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        With its final limits and scales.
    ends : mapping
        Name to (x, y, colour), in data coordinates.
    gap : float
        Least distance of two names, points.
    """
    points = axis.figure.dpi / 72
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = [axis.transData.transform(ends[name][:2])[1] / points for name in names]
    places = np.array(heights, float)
    for _ in range(200):  # push neighbours apart, both by half of what they lack
        lack = np.clip(gap - np.diff(places), 0, None)
        if not lack.any():
            break
        places[:-1] -= lack / 2
        places[1:] += lack / 2
    for name, height, place in zip(names, heights, places, strict=True):
        x, y, colour = ends[name]
        axis.annotate(
            name,
            (x, y),
            (4, place - height),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )


def number(value: float) -> str:
    """Write a positive number for a title: as it is, or as a power of ten below 0.001."""
    if value >= 1e-3:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    factor = "" if float(digits) == 1 else rf"{float(digits):g}\times "
    return rf"${factor}10^{{{int(exponent)}}}$"
