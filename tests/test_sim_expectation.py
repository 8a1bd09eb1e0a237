"""Measured against predicted: the acceptance rule holds, and catches a wrong constant."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from adam_minibatch_noise.expansion import bounds
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.theory import batch_variance_factor, limit_constants
from sim import expectation
from sim.losses.noise_summary import largest_noise
from sim.losses.problems import make_least_squares, make_quadratics
from sim.monte_carlo import corr, expectation_check
from sim.monte_carlo.averaging_settings import FEWEST_PERMUTATIONS
from sim.monte_carlo.control_variate import linear_part
from sim.monte_carlo.sampling import ordered_partitions
from tests.test_library_update_rules import CASES, LINEAR


def run(capsys, *argv):
    status = expectation.main([str(arg) for arg in argv] + ["--format", "json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("n_samples", "batch_size"), [(6, 1), (6, 2), (8, 2), (8, 4)])
@pytest.mark.parametrize("problem", ["least-squares", "quadratics"])
def test_montecarlo_within_4_stderr_of_enumeration(capsys, problem, n_samples, batch_size):
    flags = ["--problem", problem, "--n-samples", n_samples, "--n-params", 3, "--batch-size", batch_size]
    flags += ["--beta1", 0.8, "--beta2", 0.9, "--noise", 0.2]
    _, exact = run(capsys, *flags, "--method", "enumerate")
    _, sampled = run(capsys, *flags, "--n-permutations", 20_000, "--seed", 1)
    gap = np.abs(np.subtract(sampled["measured"], exact["measured"]))
    assert np.all(gap <= 4 * np.array(sampled["stderr"]))
    assert np.all(np.array(sampled["stderr"]) > 0)


@pytest.mark.parametrize("problem", [make_least_squares(8, 3, 3e-4, 0), make_quadratics(8, 3, 3e-4, 0)])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.8), (0.5, 0.8), (0.9, 0.999)])
def test_enumeration_agrees_with_the_formula_and_catches_every_wrong_constant(
    problem, beta1, beta2, monkeypatch
):
    quadratics = problem if hasattr(problem, "hessians") else problem.quadratics()
    orders = ordered_partitions(8, 2)
    arrays = (quadratics.gradients, quadratics.hessians)
    measured = corr.adam_quadratics(*arrays, 2, beta1, beta2, 0.0)(orders).mean(axis=0)
    settings = (problem, make_rule("adam", {"beta1": beta1, "beta2": beta2}), 2, measured, np.zeros(3))
    assert expectation_check.compare(*settings).verdict == "agreed"
    right = limit_constants(beta1, beta2)
    caught = []
    for name in vars(right):
        wrong = replace(right, **{name: -getattr(right, name)})
        monkeypatch.setattr(expectation_check, "limit_constants", lambda *_, wrong=wrong: wrong)
        if expectation_check.compare(*settings).verdict == "violated":
            caught.append(name)
    # C4 multiplies a term that Lemma A.1 calls negligible: below the bound here, see test_sim_second_order
    assert set(caught) >= {"FB", "C1", "C2", "C3", "C5"}


def test_montecarlo_of_the_default_problem_agrees_and_catches_c2_with_its_sign_flipped(monkeypatch, capsys):
    flags = ["--n-samples", 256, "--n-params", 8, "--n-permutations", 4000]
    status, result = run(capsys, *flags)
    assert (status, result["verdict"]) == (0, "agreed")
    right = limit_constants(0.9, 0.999)
    monkeypatch.setattr(expectation_check, "limit_constants", lambda *_: replace(right, C2=-right.C2))
    status, result = run(capsys, *flags)
    assert (status, result["verdict"]) == (1, "violated")


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_higher_order_bound_holds_on_enumeration(noise):
    for seed in range(5):
        problem = make_quadratics(6, 3, noise, seed)
        orders = ordered_partitions(6, 2)
        arrays = (problem.gradients, problem.hessians)
        measured = corr.adam_quadratics(*arrays, 2, 0.8, 0.9, 0.0)(orders).mean(axis=0)
        adam = make_rule("adam", {"beta1": 0.8, "beta2": 0.9})
        gap = bounds.left_out(adam, problem.gradients, problem.hessian_row, problem.moments(), 2)
        assert np.all(np.abs(measured - gap.exact) <= gap.higher_order + 1e-12 * np.abs(measured))
        assert np.any(np.abs(measured - gap.exact) >= 1e-5 * gap.higher_order)  # it is a bound, not a blanket


def test_noise_sizes_match_enumeration(rng):
    import itertools

    noise = rng.standard_normal((7, 2))
    noise -= noise.mean(axis=0)
    for batch_size in (1, 2, 3, 6, 7):
        means = np.array([noise[list(c)].mean(axis=0) for c in itertools.combinations(range(7), batch_size)])
        third, fourth, largest = bounds.noise_sizes(noise, batch_size)
        np.testing.assert_allclose(fourth, np.mean(means**4, axis=0), rtol=1e-10, atol=1e-30)
        np.testing.assert_allclose(largest, np.abs(means).max(axis=0), rtol=1e-12, atol=1e-15)
        assert np.all(third >= np.abs(np.mean(means**3, axis=0)) - 1e-15)


def test_left_out_second_order_vanishes_for_short_memory_and_many_batches():
    problems = [make_quadratics(n, 2, 0.01, 0) for n in (200, 800)]
    adam = make_rule("adam", {"beta1": 0.3, "beta2": 0.5})
    gaps = [bounds.left_out(adam, p.gradients, p.hessians, p.moments(), 1) for p in problems]
    assert np.all(np.abs(gaps[1].second_order) < 1e-4 * np.abs(gaps[1].exact))


def test_problem_file_gives_the_generator_s_result(tmp_path, capsys):
    problem = make_least_squares(8, 3, 0.02, 0)
    path = tmp_path / "p.npz"
    np.savez(path, **vars(problem))
    flags = ["--batch-size", 2, "--method", "enumerate"]
    _, from_file = run(capsys, *flags, "--problem-file", path)
    _, generated = run(capsys, *flags, "--n-samples", 8, "--n-params", 3)
    assert from_file["measured"] == generated["measured"]
    assert from_file["n_permutations"] == 2520


def test_several_settings_give_what_each_gives_by_itself(capsys):
    flags = ["--n-samples", 8, "--n-params", 2, "--n-permutations", 300]
    pairs = [(size, beta2) for size in (2, 4) for beta2 in (0.5, 0.9)]
    alone = [run(capsys, *flags, "--batch-size", size, "--beta2", beta2) for size, beta2 in pairs]
    status, together = run(capsys, *flags, "--batch-size", 2, 4, "--beta2", 0.5, 0.9)
    assert together == [value for _, value in alone]
    assert status == max(one for one, _ in alone)
    several = [*map(str, flags), "--batch-size", "2", "4", "--beta2", "0.5", "0.9"]
    expectation.main([*several, "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(int(row["batch_size"]), float(row["beta2"])) for row in rows[::2]] == pairs
    expectation.main(several)
    assert capsys.readouterr().out.count("batch_size ") == 4


def test_too_much_noise_is_said_and_not_judged(capsys):
    flags = ["--n-samples", "8", "--n-params", "2", "--batch-size", "2", "--method", "enumerate"]
    assert expectation.main([*flags, "--noise", "0.5"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("no bound: ")


def test_a_violation_by_few_orders_is_said_and_not_judged(capsys):
    """Six orders of which one is met twice or more often than its share: off by many of its own standard errors."""
    flags = ["--n-samples", "4", "--n-params", "2", "--batch-size", "2", "--beta2", "0", "--format", "json"]
    flags += ["--no-control-variate", "--n-permutations", "3"]
    verdicts = set()
    for seed in range(40):
        assert expectation.main([*flags, "--seed", str(seed)]) == 0
        captured = capsys.readouterr()
        verdict = json.loads(captured.out)["verdict"]
        assert ("too few orders" in captured.err) == (verdict == "too few orders")
        verdicts.add(verdict)
    assert verdicts == {"agreed", "too few orders"}


@pytest.mark.parametrize("off", [2.0, np.nan], ids=["off", "no number"])
def test_what_is_off_or_no_number_is_violated_from_100_random_orders_on(off):
    def verdict(n_permutations):
        measured, none, one = np.array([1.0, off]), np.zeros(2), np.ones(2)
        values = {"measured": measured, "stderr": none, "predicted": one, "exact": one, "left_out": none}
        return expectation_check.Comparison(
            **values, bound=none, rho=0.1, n_permutations=n_permutations
        ).verdict

    assert [verdict(n) for n in (2, 99, 100, None)] == ["too few orders"] * 2 + ["violated"] * 2


@pytest.mark.parametrize(
    ("n_permutations", "n_violated"),
    [(4, range(100, 1000)), (FEWEST_PERMUTATIONS, range(3))],
    ids=["four", "the fewest"],
)
def test_with_the_fewest_orders_a_true_formula_is_hardly_ever_violated(n_permutations, n_violated):
    """1000 seeds on a problem of 6 orders whose mean, known by enumeration, is what the formula says."""
    problem, settings = make_least_squares(4, 2, 0.02, 0), (2, 0.9, 0.0, 0.0)
    orders = ordered_partitions(4, 2)
    arrays = (problem.features, problem.residuals)
    values = corr.adam_least_squares(*arrays, *settings)(orders)
    values -= linear_part(problem, *settings)(orders)
    adam = make_rule("adam", {"beta1": 0.9, "beta2": 0.0})
    assert expectation_check.compare(problem, adam, 2, values.mean(axis=0), np.zeros(2)).excess.max() < 0.1
    drawn = values[np.random.default_rng(0).integers(0, 6, (1000, n_permutations))]
    stderr = drawn.std(axis=1, ddof=1) / np.sqrt(n_permutations)
    gap = expectation_check.compare(problem, adam, 2, drawn.mean(axis=1), stderr)
    assert (gap.excess.max(axis=1) > 1).sum() in n_violated


# ------------------------------------------------------------------------------------------------ other optimisers
BOUNDED = [
    "nadam",
    "rmsprop",
    "adamw",
    "ademamix",
    "invariant-adam",
    "signum-smooth",
    "lion-smooth",
    "sgd-momentum",
    "nesterov",
]
SETTINGS = dict(CASES) | {"rmsprop": {"beta2": 0.9}, "ademamix": {"beta1": 0.7, "beta2": 0.9, "beta3": 0.97}}


@pytest.mark.parametrize("name", BOUNDED)
def test_higher_order_bound_of_other_optimizers_holds_on_enumeration(name):
    for seed in range(3):
        problem, rule = make_least_squares(6, 3, 0.02, seed), make_rule(name, SETTINGS[name])
        micro = 1 if rule.of_micro_batches else None
        measured = expectation_check.measure_by_enumeration(problem, rule, 2, micro)
        gap = expectation_check.compare(problem, rule, 2, measured, np.zeros(3), micro_batch_size=micro)
        assert gap.verdict == "agreed"
        assert gap.rho == pytest.approx(largest_noise(problem.gradients, micro or 2), rel=1e-12)
        left = np.abs(measured - gap.exact)
        assert np.all(left <= gap.bound + 1e-12 * np.abs(measured))
        if name in LINEAR:
            assert not gap.bound.any()
        else:
            assert np.any(left >= 1e-5 * gap.bound)  # it is a bound, not a blanket


@pytest.mark.parametrize("name", ["signum-smooth", "lion-smooth"])
def test_the_bound_of_a_smooth_sign_holds_down_to_the_sign_itself(name):
    """At noise for which Adam has no bound; the expectation falls as delta, and the bound with it."""
    problem, relative = make_least_squares(6, 3, 0.4, 0), []
    rho = largest_noise(problem.gradients, 2)
    assert bounds.RADIUS < rho < 1
    for delta in (10.0, 1.0, 0.1, 1e-2, 1e-4, 1e-8, 1e-12):
        rule = make_rule(name, {"beta1": 0.8, "delta": delta})
        measured = expectation_check.measure_by_enumeration(problem, rule, 2)
        gap = expectation_check.compare(problem, rule, 2, measured, np.zeros(3))
        assert gap.verdict == "agreed", delta
        assert (np.abs(measured - gap.exact) <= gap.bound).all()
        relative.append(np.abs(measured).max() / delta)
    assert relative[-1] == pytest.approx(relative[-2], rel=1e-6)
    assert relative[0] < 0.1 * relative[-1]


def test_the_radius_of_a_smooth_sign_is_where_its_root_vanishes():
    """Of the complex noise x for which (g (1 + x))^2 + delta = 0 the smallest, over components."""
    gradient, delta = np.array([0.5, -2.0]), 0.3
    roots = np.concatenate([np.roots([g**2, 2 * g**2, g**2 + delta]) for g in gradient])
    rule = make_rule("lion-smooth", {"delta": delta})
    assert bounds.radius_of(rule, gradient) == pytest.approx(np.abs(roots).min(), rel=1e-12)
    assert bounds.radius_of(make_rule("nadam"), gradient) == bounds.RADIUS


def test_where_batches_turn_the_sign_the_program_says_so(capsys):
    sizes = ["--n-samples", "6", "--n-params", "2", "--batch-size", "2", "--noise", "1.5"]
    flags = [*sizes, "--method", "enumerate", "--optimizer", "signum-smooth"]
    found = []
    for delta in ("1e3", "1e-6"):
        assert expectation.main([*flags, "--delta", delta]) == 0
        found.append(capsys.readouterr().err)
    assert found[0] == ""  # smooth enough: the bound holds
    assert found[1].startswith("no bound: a batch can deviate from the gradient by")
    assert "outside the range of the expansion, rho < 1.000" in found[1]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_wrong_expectation_of_another_optimizer_is_violated(name, monkeypatch):
    problem, rule = make_least_squares(6, 3, 3e-4, 0), make_rule(name, SETTINGS[name])
    micro = 1 if rule.of_micro_batches else None
    measured = expectation_check.measure_by_enumeration(problem, rule, 2, micro)
    right = bounds.second_order_terms

    def wrong(*args, **others):
        zeroth, terms = right(*args, **others)
        return zeroth, {term: -value for term, value in terms.items()}

    monkeypatch.setattr(bounds, "second_order_terms", wrong)
    gap = expectation_check.compare(problem, rule, 2, measured, np.zeros(3), micro_batch_size=micro)
    assert gap.verdict == "violated"


@pytest.mark.parametrize(
    "flags",
    [
        ["--optimizer", "nadam"],
        ["--optimizer", "lion-smooth", "--delta", "0.5"],
        ["--optimizer", "sgd-momentum"],
        ["--optimizer", "adamw", "--weight-decay", "0.2"],
        ["--optimizer", "invariant-adam", "--micro-batch-size", "2"],
    ],
)
def test_montecarlo_of_another_optimizer_agrees(capsys, flags):
    sizes = ["--n-samples", 64, "--n-params", 4, "--batch-size", 8, "--n-permutations", 2000]
    status, result = run(capsys, *sizes, *flags)
    assert (status, result["verdict"], result["optimizer"]) == (0, "agreed", flags[1])
    assert result["control_variate"] is None


@pytest.mark.parametrize("flags", [["adam", "--eps", "0.1"], ["adam-p"]])
def test_where_no_bound_is_known_the_program_says_so(capsys, flags):
    sizes = ["--n-samples", "6", "--n-params", "2", "--batch-size", "2", "--method", "enumerate"]
    assert expectation.main([*sizes, "--optimizer", *flags]) == 0
    captured = capsys.readouterr()
    assert "no bound: none is known for the formula of this optimizer" in captured.err
    status, result = run(capsys, *sizes, "--optimizer", *flags)
    exact, measured = np.array(result["exact"]), np.array(result["measured"])
    np.testing.assert_allclose(measured, exact, rtol=1e-3)
    assert (status, result["excess"]) == (0, [None, None])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--optimizer", "muon"], ["--optimizer", "depends on the gradients of others"]),
        (["--optimizer", "adm"], ["'adm'", "nearest: adam"]),
        (
            ["--optimizer", "rmsprop", "--beta1", "0.9"],
            ["--beta1 is 0.9, allowed only with --optimizer sgd-momentum"],
        ),
        (
            ["--optimizer", "invariant-adam", "--n-samples", "16", "--n-params", "2"],
            ["--micro-batch-size is None, allowed: a divisor of --batch-size 16"],
        ),
        (["--beta2", "1"], ["--beta2", "'1'", ">= 0 and < 1"]),
        (["--beta1", "nan"], ["--beta1", "'nan'", ">= 0"]),
        (["--batch-size", "5", "--n-samples", "64"], ["--batch-size", "5", "64"]),
        (["--eps-root", "-1"], ["--eps-root", "'-1'", ">= 0"]),
        (["--n-permutations", "1"], ["--n-permutations", "'1'", ">= 2"]),
        (["--n-threads", "0"], ["--n-threads", "'0'", ">= 1"]),
        (["--method", "enumerate"], ["1024", "1000000"]),
        (["--beta", "0.5"], ["--beta"]),
        (["--problem-file", "nowhere.npz"], ["nowhere.npz"]),
        (["--out", "/proc/nowhere/x", "--n-samples", "16", "--n-params", "1"], ["/proc/nowhere"]),
    ],
)
def test_rejects_bad_flags_in_one_line(fails, flags, words):
    complaint = fails(expectation.main, *flags)
    assert all(word in complaint for word in words), complaint


def test_rejects_bad_problem_files_in_one_line(fails, tmp_path):
    good = {"features": np.ones((4, 2)), "targets": np.ones(4), "theta": np.ones(2)}
    bad = {
        "nan": good | {"targets": np.array([1.0, np.nan, 0, 0])},
        "shape": good | {"theta": np.ones(3)},
        "empty": good | {"features": np.ones((0, 2)), "targets": np.ones(0)},
        "type": good | {"theta": np.array(["a", "b"])},
        "pickle": good | {"theta": np.array([{}, {}], dtype=object)},
        "missing": {"features": np.ones((4, 2)), "theta": np.ones(2)},
    }
    for name, arrays in bad.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        assert f"{name}.npz" in fails(expectation.main, "--problem-file", path, "--batch-size", 2)
    whole = (tmp_path / "nan.npz").read_bytes()
    for name, content in {"cut": whole[:-40], "text": b"hello", "nothing": b""}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        assert f"{name}.npz" in fails(expectation.main, "--problem-file", path, "--batch-size", 2)
    np.save(tmp_path / "single.npy", np.ones(3))
    assert "single.npy" in fails(expectation.main, "--problem-file", tmp_path / "single.npy")


def test_rejects_zero_gradient_naming_the_component(fails, tmp_path):
    path = tmp_path / "zero.npz"
    features = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    np.savez(path, features=features, targets=-np.ones(4), theta=np.zeros(2))
    complaint = fails(expectation.main, "--problem-file", path, "--batch-size", 2, "--eps-root", 0.1)
    assert "component 1" in complaint


def test_enumeration_weighs_every_partition_once():
    v = batch_variance_factor(6, 2)
    problem = make_quadratics(6, 1, 1.0, 0)
    orders = ordered_partitions(6, 2)
    first = problem.gradients[orders[:, :2], 0].mean(axis=1)
    assert np.var(first) == pytest.approx(v * np.var(problem.gradients), rel=1e-12)
