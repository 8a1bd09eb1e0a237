import json

import numpy as np
import pytest

from sim import exact
from sim.losses.problems import make_least_squares


def run(capsys, *argv):
    exact.main([str(arg) for arg in argv] + ["--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_zeroth_and_second_order_match_multi_epoch_enumeration(capsys, tmp_path):
    from tests.test_library_second_order import adam_corr, enumerated

    problem = make_least_squares(6, 2, 0.01, 4)
    np.savez(tmp_path / "p.npz", **vars(problem))
    flags = ["--problem-file", tmp_path / "p.npz", "--batch-size", 2, "--n-epochs", 2, "--beta2", 0.95]
    result = run(capsys, *flags)
    mean = enumerated(problem.quadratics(), 2, 2, lambda g, h: adam_corr(g, h, 0.9, 0.95))
    noise = np.array(result["second_order"])
    np.testing.assert_allclose(mean - result["zeroth"], noise, rtol=0.05)
    assert result["t"] == 5


def test_table_csv_and_json_hold_the_same_numbers(capsys, tmp_path):
    flags = ["--n-samples", "32", "--n-params", "3", "--algorithm", "sgd-momentum"]
    exact.main([*flags, "--format", "csv", "--out", str(tmp_path / "x.csv")])
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert float(lines[1].split(",")[-2]) == run(capsys, *flags)["zeroth"][0]
    exact.main(flags)
    assert capsys.readouterr().out.split()[:3] == ["component", "zeroth", "second_order"]


@pytest.mark.parametrize("flags", [["--n-epochs", "0"], ["--n-epochs", "999999999"], ["--algorithm", "x"]])
def test_rejects_bad_flags(fails, flags):
    assert flags[0] in fails(exact.main, *flags)
