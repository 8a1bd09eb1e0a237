"""Figures 2 and 3 from the files of real, tiny sweeps, missing cells included."""

import pandas as pd
import pytest

from analysis import plot_sweep
from analysis.reductions import sweeps
from tests.sweep_runs import curve, write

TINY = "--n-layer 1 --n-head 1 --d-model 4 --d-head 4 --d-inner 4 --tgt-len 8 --max-train-windows 64 --n-epochs 2"


@pytest.fixture(scope="module")
def panels(tmp_path_factory):
    from train import sweep

    folder, paths = tmp_path_factory.mktemp("panels"), []
    for name, size, betas in (("a", 16, ["--beta2", "0.9", "0.99"]), ("b", 32, ["--beta1", "0.5", "0.9"])):
        paths.append(folder / f"{name}.csv")
        flags = [*TINY.split(), "--batch-size", str(size), *betas, "--seed", "0", "1", "--no-progress"]
        sweep.main([*flags, "--out", str(paths[-1])])
    return paths


def draw(out, *argv):
    plot_sweep.main([*map(str, argv), "--out", str(out), "--summary", str(out.with_suffix(".csv"))])
    return out.read_text(), pd.read_csv(out.with_suffix(".csv"))


def test_draws_real_sweeps_and_what_is_missing_the_same_bytes_twice(panels, tmp_path):
    grid = ["--lr", 0.002, "--batch-size", 16, 32, 64, "--beta2", 0.9, 0.99, 0.999]
    text, cells = draw(tmp_path / "1.svg", "--tables", *panels, *grid)
    assert text == draw(tmp_path / "2.svg", "--tables", *panels, *grid)[0]
    for size in (16, 32, 64):
        assert f"batch size {size}, lr 0.002" in text
    assert text.count("<!-- not yet run -->") == 2  # the panel that has no run, and the legend
    assert "2 seeds; bars: range" in text
    assert cells["status"].tolist() == [
        "measured",
        "measured",
        "missing",
        "missing",
        "missing",
        "measured",
        *["missing"] * 3,
    ]
    first, table = cells.iloc[0], pd.read_csv(panels[0])
    assert first["mean"] == table[table["beta2"] == 0.9]["min_valid_perplexity"].mean()


def test_beta1_curve_takes_the_runs_of_both_panels(panels, tmp_path):
    _, cells = draw(tmp_path / "1.svg", "--tables", *panels, "--swept", "beta1")
    assert cells[["batch_size", "beta1"]].to_numpy().tolist() == [[32, 0.5], [32, 0.9]]


def test_many_batch_sizes_share_a_panel_of_their_learning_rate(tmp_path):
    rows = curve({0.9: [5, None], 0.99: [6, 6]}, batch_size=128) + curve({0.99: [7]}, batch_size=256)
    grid = ["--lr", 0.001, 0.0001, "--batch-size", *(2**k for k in range(7, 15)), "--beta2", 0.9, 0.99, 0.999]
    text, _ = draw(tmp_path / "1.svg", "--tables", write(tmp_path / "t.csv", rows), *grid)
    labels = [part.split(" -->")[0] for part in text.split("<!-- ")[1:]]
    assert [label for label in labels if label.startswith("lr ")] == ["lr 0.001", "lr 0.0001"]
    assert [label for label in labels if label.startswith("b = ")] == [f"b = {2**k}" for k in range(7, 15)]
    assert labels.count("not yet run") == 2
    assert {"grey: no run yet", "a run diverged"} <= set(labels)
    assert "best mean" not in labels  # no batch size has two values to compare
    assert [labels.count(label) for label in ("0.9", "0.99", "0.999")] == [
        2,
        2,
        2,
    ]  # the axis says beta, not memory


def test_a_best_at_the_end_of_the_grid_has_a_square_ring_that_the_legend_names(tmp_path):
    inside = curve({0.9: [6, 6], 0.99: [5, 5], 0.999: [7, 7]})
    at_end = curve({0.9: [5, 5], 0.99: [6, 6], 0.999: [7, 7]}, batch_size=64)
    for rows, said in (
        (inside, {"best mean"}),
        (at_end, {"best mean, at the end of the grid"}),
        (inside + at_end, {"best mean", "best mean, at the end of the grid"}),
    ):
        text, _ = draw(tmp_path / "1.svg", "--tables", write(tmp_path / "t.csv", rows))
        assert {
            name for name in ("best mean", "best mean, at the end of the grid") if f"<!-- {name} -->" in text
        } == said


def test_the_ring_is_a_square_where_a_value_beyond_the_grid_may_be_better(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    from analysis.drawing import style

    kept = []
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure))
    rows = curve({0.9: [6, 6], 0.99: [5, 5], 0.999: [7, 7]})
    rows += curve({0.9: [5, 5], 0.99: [6, 6], 0.999: [7, 7]}, batch_size=64)
    plot_sweep.main(["--tables", str(write(tmp_path / "t.csv", rows)), "--out", str(tmp_path / "1.svg")])
    rings = [line.get_marker() for axis in kept[0].axes for line in axis.lines if line.get_markersize() == 10]
    assert rings == ["o", "s"]  # of batch size 8, best inside the grid, and of 64, best at its end
    plt.close(kept[0])


def test_only_batch_sizes_without_a_run_are_grey():
    rows = [
        {"batch_size": size, "status": status}
        for size, status in ((8, "measured"), (16, "missing"), (32, "diverged"))
    ]
    look = plot_sweep.looks(pd.DataFrame(rows), alone=False)
    assert {size: its.begun for size, its in look.items()} == {8: True, 16: False, 32: True}
    assert look[16].colour == plot_sweep.MISSING_GREY
    assert [look[8].place, look[32].place] == [0, 1]


def test_figure_of_nothing_says_so(tmp_path):
    text, cells = draw(tmp_path / "1.svg", "--lr", 0.1, "--batch-size", 8)
    assert "no run yet" in text
    assert cells["error"].tolist() == [sweeps.NONE]
