import json

import numpy as np
import pytest

from adam_minibatch_noise.expansion.expectation import expected_corr
from adam_minibatch_noise.expansion.one_order import rule_corr
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, settings_of
from sim import exact
from sim.losses.problems import make_least_squares
from tests.orders import batches_of, of_epochs


def run(capsys, *argv):
    exact.main([str(arg) for arg in argv] + ["--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_zeroth_and_second_order_match_multi_epoch_enumeration(capsys, tmp_path):
    problem = make_least_squares(6, 2, 0.01, 4)
    np.savez(tmp_path / "p.npz", **vars(problem))
    flags = ["--problem-file", tmp_path / "p.npz", "--batch-size", 2, "--n-epochs", 2, "--beta2", 0.95]
    result = run(capsys, *flags)
    gradients, hessians = (of_epochs(x, 2) for x in batches_of(problem.quadratics(), 2))
    mean = rule_corr(make_rule("adam", {"beta2": 0.95}), gradients, hessians).mean(axis=0)
    noise = np.array(result["second_order"])
    np.testing.assert_allclose(mean - result["zeroth"], noise, rtol=0.05)
    assert result["t"] == 5


def test_table_csv_and_json_hold_the_same_numbers(capsys, tmp_path):
    flags = ["--n-samples", "32", "--n-params", "3", "--optimizer", "sgd-momentum"]
    exact.main([*flags, "--format", "csv", "--out", str(tmp_path / "x.csv")])
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert float(lines[1].split(",")[-2]) == run(capsys, *flags)["zeroth"][0]
    exact.main(flags)
    assert capsys.readouterr().out.split()[:3] == ["component", "zeroth", "second_order"]


@pytest.mark.parametrize("flags", [["--n-epochs", "0"], ["--n-epochs", "999999999"], ["--optimizer", "x"]])
def test_rejects_bad_flags(fails, flags):
    assert flags[0] in fails(exact.main, *flags)


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_is_the_library_s(capsys, name):
    micro = 2 if name == "invariant-adam" else None
    more = ["--micro-batch-size", micro] if micro else []
    result = run(capsys, "--optimizer", name, "--n-samples", 12, "--n-params", 2, "--batch-size", 4, *more)
    problem = make_least_squares(12, 2, 0.02, 0)
    want = expected_corr(make_rule(name), problem.moments(), 12, 4, 1, micro, problem.theta)
    np.testing.assert_array_equal(result["zeroth"], want.zeroth)
    np.testing.assert_array_equal(result["second_order"], want.second_order)
    for setting, default in settings_of(name).items():
        assert result[setting] == default
    assert ("constants" in result) == (want.constants is not None)


def test_the_example_of_the_issue(capsys, tmp_path):
    problem = make_least_squares(6, 2, 0.01, 4)
    np.savez(tmp_path / "P.npz", **vars(problem))
    flags = ["--optimizer", "nadam", "--problem-file", tmp_path / "P.npz", "--batch-size", 3]
    result = run(capsys, *flags, "--beta1", ".9", "--beta2", ".99", "--eps-root", "1e-6")
    rule = make_rule("nadam", {"beta1": 0.9, "beta2": 0.99, "eps_root": 1e-6})
    want = expected_corr(rule, problem.moments(), 6, 3)
    np.testing.assert_array_equal(result["second_order"], want.second_order)


def test_help_lists_every_optimizer_with_its_settings(capsys):
    with pytest.raises(SystemExit) as ended:
        exact.main(["--optimizer", "help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for name in optimizer_names():
        (line,) = [line for line in text.splitlines() if line.split() and line.split()[0] == name]
        for setting in settings_of(name):
            assert "--" + setting.replace("_", "-") in line
