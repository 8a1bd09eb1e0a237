import json

import numpy as np
import pytest

from adam_minibatch_noise.expansion import turning_points
from adam_minibatch_noise.expansion.constants import exact_c_total, rule_c_total
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.weight_sums import batch_correlation
from adam_minibatch_noise.theory import batch_variance_factor, c_total, critical_batch_size
from sim import turning

SMALL = [
    "--n-samples",
    "1000",
    "--batch-sizes",
    "64",
    "400",
    "5000",
    "--noise-scales",
    "40",
    "--n-epochs",
    "1",
    "3",
]
GRID = ["--grid", "0.8", "0.9", "0.95", "0.99", "0.999", "--min-batch-size", "20"]


def result(capsys, *argv):
    turning.main([*map(str, argv), "--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_map_is_c_total_in_the_limit_and_exact_c_total(capsys):
    rows = result(capsys, *SMALL, *GRID)["map"]
    assert len(rows) == 2 * 3 * 2 * 5
    for row in rows:
        b = min(row["batch_size"], 1000)
        lam = float(batch_variance_factor(1000, b)) * 40
        assert row["lam"] == pytest.approx(lam, rel=1e-14)
        betas = row["beta1"], row["beta2"]
        assert row["c_total_limit"] == pytest.approx(float(c_total(*betas, lam)), rel=1e-13)
        correlation = batch_correlation(1000, b) if b < 500 else None
        exact = exact_c_total(*betas, lam, 1000 // b, row["n_epochs"], correlation)
        assert row["c_total_exact"] == pytest.approx(exact, rel=1e-11, abs=1e-12)
    assert {(row["beta1"], row["beta2"]) for row in rows} >= {(0.9, 0.8), (0.8, 0.999)}


def test_a_batch_size_above_n_samples_means_the_full_batch():
    assert turning_points.epoch_geometry(16_317, 16_384) == (1, 0.0, 0.0)
    m, v, correlation = turning_points.epoch_geometry(16_317, 8192)  # half of the samples are never seen
    assert m == 1
    assert v == pytest.approx((16_317 / 8192 - 1) / 16_316)
    assert correlation == 0
    m, v, correlation = turning_points.epoch_geometry(16_317, 128)
    assert m == 127
    assert correlation * v == pytest.approx(-1 / 16_316)


def test_turning_points_of_the_limit_are_those_of_the_lemmas(capsys):
    """Lemma 3.4: increasing in beta2 above lam = 0.50818, decreasing below 0.49453; Lemma 3.6 for beta1."""
    flags = ["--n-epochs", 1, "--batch-sizes", 512, "--min-batch-size", 200]
    rows = {(row["swept_beta"], row["noise_scale"]): row for row in result(capsys, *flags)["turning"]}
    for noise_scale in (200, 300, 500, 1000):
        after, at = critical_batch_size(16_317, noise_scale, np.array([0.50818788, 0.4945365]))
        row = rows["beta2", noise_scale]
        assert (row["turns_after_limit"], row["turned_at_limit"]) == (np.floor(after), np.ceil(at))
    for noise_scale in (300, 500, 1000):
        after, at = critical_batch_size(16_317, noise_scale, np.array([1.00150371, 0.99564875]))
        row = rows["beta1", noise_scale]
        # on a grid in [0.9, 0.999], not on all of [0.9, 1)
        assert row["turns_after_limit"] == pytest.approx(after, rel=2e-3, abs=1)
        assert row["turned_at_limit"] == pytest.approx(at, rel=2e-3, abs=1)


def test_turning_points_of_the_exact_theory_match_a_scan_with_exact_c_total(capsys):
    flags = [*SMALL, *GRID, "--sweeps", "beta2"]
    (row,) = [row for row in result(capsys, *flags)["turning"] if row["n_epochs"] == 3]
    grid = [0.9, 0.90001, 0.95, 0.99, 0.9989999, 0.999]
    rising, falling = [], []
    for b in range(20, 500):
        lam = float(batch_variance_factor(1000, b)) * 40
        values = [exact_c_total(0.9, r, lam, 1000 // b, 3, batch_correlation(1000, b)) for r in grid]
        rising += [b] if (np.diff(values) > 0).all() else []
        falling += [b] if (np.diff(values) < 0).all() else []
    assert row["turns_after_exact"] == max(rising)
    assert row["turned_at_exact"] == min(falling)
    assert rising == list(range(20, max(rising) + 1))
    assert falling == list(range(min(falling), 500))


def test_turning_point_of_a_written_out_table():
    up, hill, down, flat = [0, 1, 2], [0, 1, 0], [2, 1, 0], [0, 0, 0]
    sizes = np.arange(10, 17)
    values = np.array([up, up, hill, down, hill, down, flat])
    assert turning_points.turning_point(values, sizes, 1) == (11, 15)
    assert turning_points.turning_point(-values, sizes, -1) == (11, 15)
    assert turning_points.turning_point(values[2:5], sizes[2:5], 1) == (None, None)


def test_csv_files_hold_the_same_as_json(capsys, tmp_path):
    want = result(capsys, *SMALL, *GRID)
    files = ["--out", str(tmp_path / "m.csv"), "--turning-out", str(tmp_path / "t.csv")]
    turning.main([*SMALL, *GRID, "--format", "csv", *files])
    for name, key in (("m.csv", "map"), ("t.csv", "turning")):
        head, *lines = (tmp_path / name).read_text().splitlines()
        assert head.split(",") == list(want[key][0])
        cells = ["" if value is None else str(value) for value in want[key][-1].values()]
        assert lines[-1].split(",") == cells
        assert len(lines) == len(want[key])
    turning.main([*SMALL, *GRID])
    text = capsys.readouterr().out
    assert text.split()[:3] == ["swept_beta", "noise_scale", "n_epochs"]
    assert "c_total_exact" in text


# ------------------------------------------------------------------------------------------------ other optimisers
@pytest.mark.parametrize(
    ("optimizer", "swept", "more"),
    [("nadam", "beta2", {}), ("rmsprop", "beta2", {}), ("adam-p", "beta1", {"power": 4.0})]
    + [("ademamix", swept, {"alpha": 2.0}) for swept in ("beta1", "beta2", "beta3")]
    + [("invariant-adam", "beta2", {"micro_batch_size": 50})],
)
def test_map_and_turning_points_of_another_optimizer_are_a_scan(capsys, optimizer, swept, more):
    flags = [word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", value)]
    micro = more.get("micro_batch_size")
    settings = {name: value for name, value in more.items() if name != "micro_batch_size"}
    value = result(capsys, *SMALL, *GRID, "--optimizer", optimizer, "--sweeps", swept, *flags)
    (turn,) = [row for row in value["turning"] if row["n_epochs"] == 3]
    assert turn["optimizer"] == optimizer

    def c_totals(grid, batch_size):
        m, v, correlation = turning_points.epoch_geometry(1000, batch_size)
        v_micro = float(batch_variance_factor(1000, min(micro or batch_size, batch_size, 1000)))
        rules = [make_rule(optimizer, settings | {swept: beta}) for beta in grid]
        return [float(rule_c_total(rule, 40 * v, m, 3, correlation, 40 * v_micro)) for rule in rules]

    for row in value["map"]:
        if row["n_epochs"] == 3:
            (want,) = c_totals([row[swept]], row["batch_size"])
            assert row["c_total_exact"] == pytest.approx(want, rel=1e-10, abs=1e-11)

    def way(batch_size):
        """The direction along the grid, 0 where it is not the same all along."""
        signs = set(np.sign(np.diff(c_totals([0.9, 0.90001, 0.95, 0.99, 0.9989999, 0.999], batch_size))))
        return signs.pop() if len(signs) == 1 else 0

    small = 1 if swept == "beta2" else -1
    if micro:  # its noise stays at every batch size, and so does the direction
        assert turn["turns_after_exact"] == 1000
        assert {way(b) for b in range(20, 500, 16)} == {small}
    elif turn["turns_after_exact"] is not None:
        assert way(turn["turns_after_exact"]) == small
        assert way(turn["turns_after_exact"] + 1) != small
    if turn["turned_at_exact"] is not None and turn["turned_at_exact"] < 500:
        assert way(turn["turned_at_exact"]) == -small


def test_an_optimizer_without_beta1_sweeps_what_it_has(capsys):
    value = result(capsys, *SMALL, *GRID, "--optimizer", "rmsprop")
    assert {row["swept_beta"] for row in value["turning"]} == {"beta2"}
    assert "beta1" not in value["map"][0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--n-samples", "10"], "min_batch_size is 64, allowed: 1 to 10"),
        (["--grid", "0.9", "0.8"], "grid is not ascending"),
        (["--grid", "1"], "--grid"),
        (["--optimizer", "sgd-momentum"], "the update of sgd-momentum is not the same for every multiple"),
        (["--optimizer", "rmsprop", "--sweeps", "beta1"], "swept_beta is 'beta1', allowed: beta2"),
        (["--optimizer", "adam", "--alpha", "2"], "allowed only with --optimizer ademamix"),
        (["--n-epochs", "1000000"], "100000 steps"),
        (["--noise-scales", "0"], "--noise-scales"),
    ],
)
def test_rejects_bad_flags(fails, flags, named):
    assert named in fails(turning.main, *flags)
