import math

import pytest

from analysis import plot_noise_scale
from common.files import write_csv


def row(epoch, batch_size=32, **changes):
    """A row of train.noise_scale, as far as the figure reads it."""
    exact = 100.0 * (epoch + 1) / batch_size
    run = {"corpus": "pydoc", "lr": 2e-3, "batch_size": batch_size, "beta1": 0.9, "beta2": 0.99, "seed": 0}
    interval = {
        "b_simple_estimate": exact,
        "b_simple_low": exact / 1.5,
        "b_simple_high": exact * 2,
        "level": 0.9,
    }
    quantiles = {name: exact * 10**i for i, name in enumerate(plot_noise_scale.QUANTILES, -1)}
    return {**run, "epoch": epoch, "n_samples": 500, "b_simple": exact, **interval, **quantiles, **changes}


@pytest.fixture
def draw(tmp_path):
    """Draw rows of snapshots and of evaluations; return the picture's text."""

    def draw(rows, evaluations=(), name="figure.svg"):
        argv = ["--out", str(tmp_path / name)]
        for flag, table in (("--tables", rows), ("--runs", evaluations)):
            if table:
                path = tmp_path / f"{flag[2:]}.csv"
                write_csv(path, table)
                argv += [flag, str(path)]
        plot_noise_scale.main(argv)
        return (tmp_path / name).read_text()

    return draw


ROWS = [row(epoch, size) for size in (32, 128) for epoch in (0.0, 1.0, 3.0)]


def test_draws_the_same_bytes_twice(draw):
    first, again = (draw(ROWS, ROWS, name) for name in ("one.svg", "two.svg"))
    assert first == again
    for words in ("batch 32, lr 0.002", "batch 128", "500 windows", "while training, 90% interval"):
        assert words in first
    assert "seed" not in first  # runs do not differ in it


def test_says_in_what_runs_differ(draw):
    text = draw([row(0.0, seed=seed, beta2=beta2) for seed in (0, 7) for beta2 in (0.9, 0.999)])
    assert text.count("seed = 7") == 2
    assert "0.999" in text
    assert "while training" not in text


def test_draws_what_is_there(draw):
    """An exact measurement alone, drawn batches alone, an interval without end, an estimate that is not a number."""
    none = dict.fromkeys(plot_noise_scale.ESTIMATE, math.nan)
    no_exact = dict.fromkeys(["b_simple", *plot_noise_scale.QUANTILES], math.nan)
    endless = {"b_simple_estimate": math.inf, "b_simple_low": 0.0, "b_simple_high": math.inf}
    draw([row(0.0, **none), row(1.0, **none)])
    draw([row(0.0, **no_exact), row(1.0, b_simple_high=math.inf)])
    bounded = draw(ROWS, ROWS)
    assert bounded != draw(ROWS, [row(0.0), row(1.0, **endless), row(2.0)])


def test_each_run_gets_its_own_evaluations(draw):
    other = [row(epoch, 64) for epoch in (0.0, 1.0)]
    assert draw(ROWS, ROWS[:3]) != draw(ROWS, ROWS[3:])
    assert draw(ROWS, other).count("fill-opacity") < draw(ROWS, ROWS).count("fill-opacity")


def test_rejects_tables_it_cannot_use(fails, tmp_path):
    path, out = tmp_path / "noise.csv", tmp_path / "x.svg"
    write_csv(path, [row(0.0), row(1.0, corpus="wikitext-2")])
    main = plot_noise_scale.main
    assert "hold 2 corpora, allowed: one" in fails(main, "--tables", path, "--out", out)
    write_csv(path, [{name: value for name, value in row(0.0).items() if name != "component_q50"}])
    assert "column 'component_q50' is missing" in fails(main, "--tables", path, "--out", out)
    write_csv(path, [row(0.0, b_simple=math.nan, b_simple_estimate=math.inf)])
    assert "noise.csv: holds no measurement" in fails(main, "--tables", path, "--out", out)
    write_csv(path, [row(0.0)])
    assert "a name that ends in .svg" in fails(main, "--tables", path, "--out", tmp_path / "x.gif")
    assert not out.exists()
