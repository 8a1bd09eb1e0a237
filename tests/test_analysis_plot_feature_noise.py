import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis import plot_feature_noise
from analysis.drawing import style
from sim.feature_noise.settings import Settings
from sim.feature_noise.studies import STUDIES
from tests.test_analysis_feature_noise_verdicts import written

BASE = Settings(n_samples=64)


def write_tables(folder, n_seeds=2):
    """Tables of all studies, the error of a large batch 0.75 and of batch 2 0.25, and the seed's tenth."""
    paths = []
    for study in STUDIES:
        paths.append(folder / f"{study}.csv")
        error = lambda name, case, seed: 0.25 + 0.5 * (case.batch_size > 2) + seed / 10  # noqa: E731
        written(study, error, base=BASE, n_seeds=n_seeds).to_csv(paths[-1], index=False)
    return [str(path) for path in paths]


def drawn(figure, tables, monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure))
    plot_feature_noise.main(["--figure", figure, "--tables", *tables, "--out", str(tmp_path / "f.svg")])
    return kept[0]


def test_alignments_show_the_published_cells(tmp_path, monkeypatch):
    figure = drawn("alignments", write_tables(tmp_path), monkeypatch, tmp_path)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        f"{name}, γ = {decay}, batch {size}"
        for name, decay in (("Adam", "$10^{-5}$"), ("AdamW", "0.01"))
        for size in (32, 2)
    ]
    ends = sorted(line.get_ydata()[-1] for line in figure.axes[1].lines if len(line.get_xdata()) == 1)
    assert ends == pytest.approx(sorted([1, 0.5, 0.1, 0.25, 1, 0.5, 0.1, 0.35]))
    plt.close(figure)


def curves(axis):
    """Means of the curves that have bars, and the ends of the bars, in the order of the curves."""
    return [
        (container.lines[0].get_xydata(), container.lines[2][0].get_segments())
        for container in axis.containers
    ]


def test_batch_draws_means_and_ranges_against_both_axes(tmp_path, monkeypatch):
    figure = drawn("batch", write_tables(tmp_path), monkeypatch, tmp_path)
    left, right = (axis.lines for axis in figure.axes)
    longest = max(
        (line for line in left if len(line.get_xdata()) > 2), key=lambda line: len(line.get_xdata())
    )
    assert list(longest.get_xdata()) == [1, 2, 4, 8, 16, 32, 64]
    assert list(longest.get_ydata()) == pytest.approx([0.3, 0.3, *[0.8] * 5])
    assert sorted(max((line.get_xdata() for line in right), key=len)) == [1, 2, 4, 8, 16, 32, 64]
    _, bars = curves(figure.axes[0])[2]
    ends = [end for bar in bars for end in bar[:, 1]]
    assert ends == pytest.approx([0.25, 0.35] * 2 + [0.75, 0.85] * 5)
    plt.close(figure)


def test_bars_run_from_the_lowest_to_the_highest_of_many_seeds(tmp_path, monkeypatch):
    figure = drawn("batch", write_tables(tmp_path, n_seeds=6), monkeypatch, tmp_path)
    _, bars = curves(figure.axes[0])[2]
    assert [end for bar in bars for end in bar[:, 1]] == pytest.approx([0.25, 0.75] * 2 + [0.75, 1.25] * 5)
    plt.close(figure)


def test_remedies_have_a_bar_a_change_and_a_mark_a_seed(tmp_path, monkeypatch):
    figure = drawn("remedies", write_tables(tmp_path), monkeypatch, tmp_path)
    names = [
        "batch 32, as published", "16 × the steps", "16 × the learning rate", "drawn with replacement",
        r"$\beta_2$ = 0.99", "batch 2",
    ]  # fmt: skip
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    for axis, n_bars in zip(figure.axes, (5, 6), strict=True):  # Adam has no run with other betas
        widths = [bar.get_width() for bar in axis.patches]
        assert widths == pytest.approx([0.8] * (n_bars - 1) + [0.3])
        seeds = [sorted(line.get_xdata()) for line in axis.lines]
        assert seeds == [pytest.approx([0.75, 0.85])] * (n_bars - 1) + [pytest.approx([0.25, 0.35])]
        assert [text.get_text() for text in axis.texts] == ["not run"] * (6 - n_bars)
    plt.close(figure)


def test_steps_have_a_named_curve_a_batch_and_learning_rate(tmp_path, monkeypatch):
    figure = drawn("steps", write_tables(tmp_path), monkeypatch, tmp_path)
    for axis in figure.axes:  # both batch sizes at one lr, the large one at a larger one too
        assert {text.get_text() for text in axis.texts} == {"batch 2", "batch 32", "batch 32, lr × 16"}
        assert [band.get_paths()[0].get_extents().size[1] > 0 for band in axis.collections] == [True] * 3
    plt.close(figure)


def test_decay_has_a_column_an_optimiser(tmp_path, monkeypatch):
    figure = drawn("decay", write_tables(tmp_path), monkeypatch, tmp_path)
    assert [len(axis.containers) for axis in figure.axes] == [3, 3, 4, 3, 3, 4]  # curves with bars
    for axis in figure.axes:
        places = [x for points, _ in curves(axis) for x in points[:, 0]]
        assert len(set(places)) == len(places)  # no bar behind another
    plt.close(figure)


def test_rescue_has_a_mark_a_setting_and_a_bar_over_seeds(tmp_path, monkeypatch):
    figure = drawn("rescue", write_tables(tmp_path), monkeypatch, tmp_path)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "AdamW", *(f"invariant Adam, micro-batches of {m}" for m in (16, 2, 1)), "Adam",
        *(rf"RMSprop, $\beta_2$ = {b}" for b in (0.99, 0.999)), "smooth Signum", "SGD with momentum",
        "AdamW, batch 2, as many steps",
    ]  # fmt: skip
    assert [label.get_text() for label in right.get_yticklabels()] == ["q = 2", "q = 3", "q = 4", "SiLU"]
    for axis, n_large, n_small in ((left, 9 + 9 + 3 + 3, 1), (right, 4 + 4 + 4, 4)):
        lines = [(len(line.get_xdata()), x) for line in axis.lines for x in line.get_xdata() if x == x]
        ends = [x for n, x in lines if n == 2]
        assert sorted(ends) == pytest.approx(
            [0.25] * n_small + [0.35] * n_small + [0.75] * n_large + [0.85] * n_large
        )
        means = [x for n, x in lines if n > 2]
        assert sorted(means) == pytest.approx([0.3] * n_small + [0.8] * n_large)
    plt.close(figure)


@pytest.mark.parametrize("figure", plot_feature_noise.STUDIES)
def test_plot_same_data_same_bytes(figure, tmp_path):
    tables, paths = write_tables(tmp_path), [tmp_path / f"{i}.svg" for i in range(2)]
    for path in paths:
        plot_feature_noise.main(["--figure", figure, "--tables", *tables, "--out", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_main_names_the_study_that_is_missing(tmp_path, fails):
    path = write_tables(tmp_path)[0]
    complaint = fails(
        plot_feature_noise.main, "--figure", "batch", "--tables", path, "--out", tmp_path / "f.svg"
    )
    assert "no study 'batch'" in complaint
    assert not (tmp_path / "f.svg").exists()
    assert pd.read_csv(path)["study"].eq("table").all()
