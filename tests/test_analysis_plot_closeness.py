import csv

import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import plot_closeness
from analysis.drawing import style
from analysis.inputs import titles
from sim.closeness import DEFAULT, OPTIMIZERS, PROBLEMS
from sim.memory.closeness_study import EXPECTED_SLOPE


def write_table(path, **changes):
    """A table of sim.closeness in which every distance is lr to the power of the theorem."""
    rows = [
        {"problem": p, "optimizer": a, "correction": c, "lr": lr, "distance": lr**order}
        | {"slope": order, "slope_stderr": 0.0125}
        | changes
        for p in PROBLEMS
        for a in DEFAULT
        for c, order in EXPECTED_SLOPE.items()
        for lr in (1e-3, 1e-4, 1e-5)
    ]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def drawn(table, monkeypatch, tmp_path):
    """The figure that main would write."""
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure))
    plot_closeness.main(["--tables", str(table), "--out", str(tmp_path / "f.svg")])
    return kept[0]


def test_names_are_those_of_the_study():
    assert set(titles.PROBLEMS) == set(PROBLEMS)
    assert set(OPTIMIZERS) <= set(titles.OPTIMIZERS)
    assert plot_closeness.ORDER == EXPECTED_SLOPE


def test_panels_show_points_slopes_and_reference_lines(tmp_path, monkeypatch):
    figure = drawn(write_table(tmp_path / "t.csv"), monkeypatch, tmp_path)
    assert len(figure.axes) == len(PROBLEMS) * len(DEFAULT)
    for axis in figure.axes:
        texts = [text.get_text() for text in axis.texts]
        assert texts == ["with Corr\n2.0000 ± 0.0125", "without Corr\n1.0000 ± 0.0125"]
        (points,) = axis.collections
        assert len(points.get_offsets()) == 6
        drawn_points = {tuple(point) for point in points.get_offsets()}
        guides = {tuple(point) for line in axis.lines for point in line.get_xydata()}
        np.testing.assert_allclose(sorted(guides), sorted(drawn_points))  # the table is exact
    plt.close(figure)


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_plot_same_data_same_bytes(tmp_path, suffix):
    table = write_table(tmp_path / "t.csv")
    paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in paths:
        plot_closeness.main(["--tables", str(table), "--out", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size > 1000


def test_main_rejects_tables_of_something_else(tmp_path, fails):
    out = tmp_path / "f.svg"
    (tmp_path / "short.csv").write_text("problem,lr\ncnn,1\n")
    wrong = write_table(tmp_path / "wrong.csv", problem="cubics")
    for table, word in (
        (tmp_path / "short.csv", "'optimizer' is missing"),
        (wrong, "'cubics', allowed: least"),
    ):
        assert word in fails(plot_closeness.main, "--tables", table, "--out", out)
    assert not out.exists()
