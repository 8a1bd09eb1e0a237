import json

import pytest

from analysis import plot_optimizer_bias
from sim import optimizer_bias
from sim.memory.optimizer_bias_study import CASES


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("bias") / "t.csv"
    sizes = ["--batch-sizes", *map(str, (64, 128, 256, 512, 1024, 4096, 16317)), "--n-epochs", "5"]
    optimizer_bias.main([*sizes, "--format", "csv", "--out", str(path)])
    return path


def test_every_case_has_a_title():
    assert set(plot_optimizer_bias.TITLES) == set(CASES)


def test_draws_the_same_bytes_twice_and_sums_up(table, tmp_path):
    for name in ("1.svg", "2.svg"):
        files = ["--out", tmp_path / name, "--summary", tmp_path / "s.json"]
        plot_optimizer_bias.main([str(word) for word in ("--tables", table, *files)])
    text = (tmp_path / "1.svg").read_text()
    assert text == (tmp_path / "2.svg").read_text()
    for title in ("Adam, power 4", "AdEMAMix", "invariant Adam", "exact, end of epoch 5"):
        assert text.count(f"<!-- {title} -->") == 1
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["noise_scale"], summary["n_epochs"]) == (300, 5)
    assert summary["cases"]["adam"]["limit"]["turn"] == pytest.approx(0.4977, abs=2e-4)  # linear in lambda
    assert summary["cases"]["adam-p1"]["limit"]["turn"] is None
    assert 512 < summary["cases"]["adam"]["exact"]["turn"] < 1024


def test_refuses_other_tables(fails, table, tmp_path):
    text = table.read_text()
    for name, changed, words in (
        ("case", text.replace("nadam,nadam", "sgd,nadam"), "column 'case' holds 'sgd'"),
        ("column", text.replace("c_total_exact", "x", 1), "column 'c_total_exact' is missing"),
    ):
        (tmp_path / f"{name}.csv").write_text(changed)
        out = tmp_path / "x.svg"
        found = fails(plot_optimizer_bias.main, "--tables", tmp_path / f"{name}.csv", "--out", out)
        assert words in found
        assert not out.exists()
