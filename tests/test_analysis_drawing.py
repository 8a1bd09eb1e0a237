"""Every figure has the same bytes for the same data, and axes that can be read."""

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.drawing import axes, style


class Shaking(ConstrainedLayoutEngine):
    """A layout that ends a little aside, as its solver's does from one call to the next."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def execute(self, fig):
        super().execute(fig)
        for part in fig.subfigs:
            part.bbox_relative.set_points(part.bbox_relative.get_points() * (1 + self.shift))
        for axis in fig.axes:
            bounds = [number * (1 + self.shift) for number in axis.get_position(original=True).bounds]
            axis._set_position(bounds, which="original")


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
@pytest.mark.parametrize("n_parts", [0, 2])
def test_same_bytes_whatever_the_last_digits_of_the_layout(tmp_path, form, n_parts):
    texts = []
    for shift in (0, 1e-12, 1e-3):
        style.apply()
        figure = plt.figure(figsize=(4, 2))
        figure.set_layout_engine(Shaking(shift))
        for part in figure.subfigures(1, n_parts) if n_parts else [figure]:
            axes = part.subplots(1, 2)
            axes[0].plot([0.1, 0.7], [1.3, 2.9])
            axes[1].set(xlabel="x", ylabel="y")
        style.save(figure, tmp_path / f"{shift}.{form}")
        texts.append((tmp_path / f"{shift}.{form}").read_bytes())
    assert texts[0] == texts[1] != texts[2]


@pytest.fixture
def panel():
    style.apply()
    figure, axis = plt.subplots(figsize=(3, 2))
    yield axis
    plt.close(figure)


def test_theme_is_the_one_of_this_project_whatever_was_set_before():
    plt.rcParams["font.sans-serif"] = ["Arial"]
    plt.rcParams["axes.grid"] = True
    style.apply()
    assert plt.rcParams["font.sans-serif"] == ["DejaVu Sans"]
    assert not plt.rcParams["axes.grid"]
    assert [to_hex(c).upper() for c in plt.rcParams["axes.prop_cycle"].by_key()["color"]] == style.OKABE_ITO


@pytest.mark.parametrize(
    ("betas", "labels"),
    [
        ((0.9, 0.999), ["0.9", "0.99", "0.999", "0.97"]),
        ((0.769, 0.999), ["0.9", "0.99", "0.999", "0.97"]),  # 0.8 would touch 0.9
        ((0.0, 0.95), ["0.9", "0.5", "0.8", "0"]),
    ],
)
def test_beta_axis_labels_betas_that_have_room(panel, betas, labels):
    low, high = (axes.memory(beta) for beta in betas)
    panel.set(xscale="log", xlim=(low / 1.05, high * 1.05))
    axes.beta_axis(panel, "beta2")
    texts = {
        text.get_text(): at for text, at in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)
    }
    assert set(texts) == set(labels)
    for text, at in texts.items():
        assert at == pytest.approx(1 / (1 - float(text)))
    assert panel.get_xlabel() == r"$\beta_2$"


@pytest.mark.parametrize(
    ("limits", "percent", "labels"),
    [
        ((0.9, 12), False, ["1", "2", "5", "10"]),
        ((0.02, 0.6), True, ["2 %", "5 %", "10 %", "20 %", "50 %"]),
        ((1e-7, 1e3), False, None),
    ],
)
def test_log_axis_labels_powers_and_what_lies_between_where_they_are_few(panel, limits, percent, labels):
    panel.set(yscale="log", ylim=limits)
    axes.log_axis(panel, percent=percent)
    panel.figure.draw_without_rendering()
    shown = [
        text.get_text()
        for text, at in zip(panel.get_yticklabels(), panel.get_yticks(), strict=True)
        if limits[0] <= at <= limits[1]
    ]
    assert shown == labels if labels else len(shown) <= 9
    assert not [text for text in panel.get_yticklabels(minor=True) if text.get_text()]


def test_labels_at_the_ends_of_curves_keep_a_distance_and_their_order(panel):
    panel.set(xlim=(0, 1), ylim=(0, 1))
    axes.label_ends(
        panel, {"b": (1, 0.51, "k"), "a": (1, 0.5, "k"), "c": (1, 0.9, "k"), "d": (1, 0.515, "k")}, 12
    )
    points = panel.figure.dpi / 72
    heights = {t.get_text(): panel.transData.transform(t.xy)[1] / points + t.xyann[1] for t in panel.texts}
    assert sorted(heights, key=heights.get) == ["a", "b", "d", "c"]
    places = sorted(heights.values())
    assert min(high - low for low, high in itertools.pairwise(places)) > 12 - 0.01


@pytest.mark.parametrize(
    ("value", "text"), [(0.01, "0.01"), (1e-5, "$10^{-5}$"), (2.5e-4, r"$2.5\times 10^{-4}$"), (3.0, "3")]
)
def test_small_numbers_are_powers_of_ten(value, text):
    assert axes.number(value) == text


def test_error_bars_of_curves_are_those_of_the_tables():
    import pandas as pd

    from analysis.reductions import sweeps

    assert sweeps.error_bar(pd.Series([3.0, 5.0])) == (3, 5)
    assert sweeps.error_bar(pd.Series([1.0, 2.0, 3.0])) == sweeps.with_error(np.array([1.0, 2.0, 3.0]))[1:3]
    assert np.isnan(sweeps.error_bar(pd.Series([3.0]))).all()


AVERAGING = {"sns.lineplot", "sns.pointplot", "sns.barplot"}
"""Functions of seaborn that draw a bootstrap of their own, with another seed each time, unless they are told a bar."""


def told_its_bar(call, function):
    """Whether a call names an error bar, or is given a dict that does, or draws every run by itself."""
    for word in call.keywords:
        if word.arg in ("errorbar", "estimator"):
            return True
        if word.arg is None:
            name = re.escape(ast.unparse(word.value).split(" ")[0])
            if re.search(rf"\b{name} = .*'errorbar'", ast.unparse(function)):
                return True
    return False


def test_seaborn_never_chooses_an_error_bar_by_itself():
    calls = [
        (path.name, function, node)
        for path in Path(style.__file__).parent.parent.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in AVERAGING
    ]
    assert len(calls) > 10
    untold = [
        f"{name}: {function.name}" for name, function, call in calls if not told_its_bar(call, function)
    ]
    assert untold == []
