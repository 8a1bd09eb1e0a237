import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis import plot_feature_noise
from analysis.drawing import style
from sim.feature_noise.settings import Settings
from tests.test_analysis_feature_noise_verdicts import table

BASE = Settings(n_samples=64)


def write_tables(folder):
    """Tables of all studies, the error of a large batch 0.75 and of batch 2 0.25, and the seed's tenth."""
    paths = []
    for study in ("table", "steps", "supports", "replacement", "betas", "batch", "decay"):
        paths.append(folder / f"{study}.csv")
        error = lambda name, case, seed: 0.25 + 0.5 * (case.batch_size > 2) + seed / 10  # noqa: E731
        table(study, error, base=BASE, n_seeds=2).to_csv(paths[-1], index=False)
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
        f"{name}, λ = {decay}, batch {size}"
        for name, decay in (("Adam", "1e-05"), ("AdamW", "0.01"))
        for size in (32, 2)
    ]
    ends = [line.get_ydata()[-1] for line in figure.axes[1].lines[:8]]
    assert ends == pytest.approx([1, 0.5, 0.1, 0.25, 1, 0.5, 0.1, 0.35])
    plt.close(figure)


def test_batch_draws_means_against_both_axes(tmp_path, monkeypatch):
    figure = drawn("batch", write_tables(tmp_path), monkeypatch, tmp_path)
    left, right = (axis.containers[2].lines[0] for axis in figure.axes)
    assert list(left.get_xdata()) == [1, 2, 4, 8, 16, 32, 64]
    assert list(left.get_ydata()) == pytest.approx([0.3, 0.3, *[0.8] * 5])
    assert sorted(right.get_xdata()) == [1, 2, 4, 8, 16, 32, 64]
    plt.close(figure)


def test_confounders_have_a_mark_a_case(tmp_path, monkeypatch):
    figure = drawn("confounders", write_tables(tmp_path), monkeypatch, tmp_path)
    assert [len(axis.containers) for axis in figure.axes] == [6, 12, 8, 0]  # 4 at one lr, 2 at a larger one
    assert [len(line.get_xdata()) for line in figure.axes[3].lines] == [10, 10]
    plt.close(figure)


def test_decay_has_a_column_an_optimiser(tmp_path, monkeypatch):
    figure = drawn("decay", write_tables(tmp_path), monkeypatch, tmp_path)
    assert [len(axis.containers) for axis in figure.axes] == [3, 3, 4, 3, 3, 4]  # curves with bars
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
