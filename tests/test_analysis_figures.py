"""Figures and numbers are reduced from the studies' tables, without a value of their own."""

import json

import pytest

from adam_minibatch_noise.errors import InputError
from analysis import plot_c_total, plot_noise_scale
from analysis.drawing import style
from analysis.inputs import tables
from analysis.reductions import expectation as expectation_effects
from analysis.reductions import training_runs
from sim import expectation


def test_noise_effects_are_c1_plus_c2_and_companions_for_the_formula(tmp_path):
    """What is drawn as predicted is Prop. 3.3 less FB; measured and exact meet it where memory is short."""
    path = tmp_path / "e.csv"
    flags = ["--n-samples", "200", "--n-params", "3", "--batch-size", "1", "--beta1", "0.3", "--beta2", "0.8"]
    flags += ["--noise", "0.05"]
    expectation.main([*flags, "--n-permutations", "40000", "--format", "csv", "--out", str(path)])
    (row,) = expectation_effects.noise_effects(tables.read([path]))
    assert row["exact"] == pytest.approx(row["predicted"], rel=0.05)
    assert abs(row["measured"] - row["exact"]) < 4 * row["stderr"]
    assert row["stderr"] < 0.5 * abs(row["exact"])


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_plot_same_data_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in paths:
        plot_c_total.main(["--out", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_save_rejects_unknown_suffix(tmp_path):
    import matplotlib.pyplot as plt

    style.apply()
    with pytest.raises(InputError, match=r"\.svg"):
        style.save(plt.figure(), tmp_path / "x.bmp")
    plt.close("all")


def test_tables_name_the_file_and_the_column(tmp_path, fails):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    for name, word in (("t.csv", "corpus"), ("empty.csv", "not a CSV"), ("none.csv", "No such file")):
        complaint = fails(plot_noise_scale.main, "--tables", tmp_path / name, "--out", tmp_path / "f.svg")
        assert name in complaint
        assert word in complaint
    assert not (tmp_path / "f.svg").exists()


def test_training_runs_reject_what_is_not_json(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json"):
        training_runs.summarize([str(tmp_path / "x.json")])


def test_training_runs_count_a_run_that_is_made_again_once(tmp_path):
    def write(name, lr, seconds, *runs):
        made = {"settings": {"lr": lr, "batch_size": 8, "corpus": "pydoc"}, "seconds": seconds, "n_params": 1}
        made |= {"n_windows": 2, "corpus": {"n_types": 3}, "made_with": {"device": "D", "torch": "T"}}
        made["runs"] = [dict(zip(("beta1", "beta2", "seed"), run, strict=True)) for run in runs]
        (tmp_path / name).write_text(json.dumps(made))
        return str(tmp_path / name)

    here = write("here.json", 0.1, 60, (0.9, 0.99, 0), (0.9, 0.999, 0))
    other = write("other.json", 0.1, 600, (0.9, 0.999, 0), (0.9, 0.999, 1))
    found = training_runs.summarize([here], [other, write("lr.json", 0.2, 600, (0.9, 0.99, 0))])
    assert (found["n_runs"], found["n_here"], found["n_again"], found["minutes"]) == (4, 2, 1, 1)
    assert training_runs.summarize([here])["n_runs"] == 2
