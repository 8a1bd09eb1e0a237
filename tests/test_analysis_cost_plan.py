import itertools
import json

import pytest

from analysis.cost_plan import epochs, main, makespan, panels, plan

SETTINGS = {
    "corpus": "wikitext-2",
    "tgt_len": 128,
    "n_epochs": 1000,
    "patience": 10,
    "evaluations_per_epoch": 1,
}


def sweep(**changes):
    curves = {"beta2": {"beta1": [0.9], "beta2": [0.9, 0.99]}, "beta1": {"beta1": [0.5], "beta2": [0.999]}}
    return {
        "settings": SETTINGS,
        "curves": curves,
        "lr": [1e-3, 1e-4],
        "batch_size": [128, 16317],
        "seed": [0, 1, 2],
    } | changes


def test_run_lasts_until_patience_after_the_minimum():
    assert epochs(SETTINGS, 128, 1e-3, 1000, 8) == 8 + 10  # 127 steps an epoch: the minimum is due sooner
    assert epochs(SETTINGS, 2048, 1e-3, 1000, 8) == 1000 / 7 + 10
    assert epochs(SETTINGS, 16317, 1e-4, 1000, 8) == 1000  # one step an epoch: cut at n_epochs
    assert epochs(SETTINGS | {"evaluations_per_epoch": 2}, 128, 1e-3, 1, 8) == 8 + 5


def test_hours_are_tokens_over_speed():
    jobs = panels(sweep(), speed=2_088_628 + 217_646 / 3, steps_to_minimum=1000, epochs_to_minimum=8)
    assert len(jobs) == 2 * 2 * 2
    for job in jobs:
        assert job.n_runs == {"beta2": 6, "beta1": 3}[job.curve]
        assert job.hours == pytest.approx(job.n_runs * job.n_epochs / 3600, rel=1e-12)  # a second an epoch


def test_makespan_is_within_grahams_bound_of_the_best_of_all_orders():
    def any_order(hours, n_gpus):
        ends = []
        for order in itertools.permutations(hours):
            free = [0.0] * n_gpus
            for job in order:
                free[free.index(min(free))] += job
            ends.append(max(free))
        return min(ends)

    for hours in ([3, 3, 2, 2, 2], [5, 4, 3], [1], [7, 1, 1, 1, 1, 1, 1, 1]):
        for n_gpus in (1, 2, 3):
            best, found = any_order(hours, n_gpus), makespan(hours, n_gpus)
            assert best <= found <= best * (4 / 3 - 1 / (3 * n_gpus)) + 1e-9  # Graham (1969), Theorem 2
    assert makespan([4, 2, 1], 1) == 7
    assert makespan([4, 2, 1], 64) == 4


def test_plan_adds_up():
    jobs = panels(sweep(), 1e5, 1000, 8)
    *curves, everything = plan(jobs, [1, 8])
    for column in ("jobs", "runs", "gpu_hours"):
        assert everything[column] == pytest.approx(sum(row[column] for row in curves), rel=1e-12)
    assert everything["days_on_1"] == pytest.approx(everything["gpu_hours"] / 24, rel=1e-12)
    assert everything["days_on_8"] >= everything["longest_job_hours"] / 24


def test_full_configuration_with_a_measured_speed(tmp_path, capsys):
    (tmp_path / "speeds.csv").write_text("batch_size,tokens_per_second\n64,1e5\n128,2e5\n512,4e5\n")
    main(["--speeds", str(tmp_path / "speeds.csv"), "--format", "json"])
    measured = json.loads(capsys.readouterr().out)
    assert measured["tokens_per_second"] == 2e5  # of the micro-batch, 128
    assert [row["jobs"] for row in measured["plan"]] == [24, 24, 48]
    assert measured["plan"][0]["runs"] == 8 * 3 * 14 * 3


def test_rejects_what_is_no_table_of_speeds(tmp_path, fails):
    path = tmp_path / "speeds.csv"
    path.write_text("batch_size\n64\n")
    assert "no table of batch_size and tokens_per_second" in fails(main, "--speeds", path)
    path.write_text("batch_size,tokens_per_second\n256,1\n")
    assert "no speed at a batch size <= 128" in fails(main, "--speeds", path)
    assert "missing.csv" in fails(main, "--speeds", tmp_path / "missing.csv")


def test_rejects_a_corpus_of_unknown_size(fails):
    assert "corpus is 'pydoc', allowed: wikitext-2" in fails(main, "--config", "config/test.yaml")
