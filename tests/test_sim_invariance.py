"""Adam over micro-batches against other routes, its limit as lr -> 0, and the two studies of invariance."""

import csv
import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from adam_minibatch_noise.theory import batch_variance_factor, scaling_rule
from sim import invariance
from sim.batch_invariance import slopes as slope_study
from sim.batch_invariance.cases import CASES, RULES
from sim.batch_invariance.kappas import Run, run_over, scaled
from sim.batch_invariance.slopes import relative_distance
from sim.batch_invariance.small_lr_limit import limit_trajectory
from sim.batch_invariance.spread import breaking_points, spreads
from sim.losses import cnn
from sim.losses.landscapes import cnn_landscape, landscape_of
from sim.losses.problems import LeastSquares, make_least_squares
from sim.monte_carlo.sampling import draw_batches

TINY = ["--cases", "least-squares-quiet", "--n-decades", "1", "--n-lr", "3", "--kappas", "2", "4"]
TINY += ["--lrs", "1e-5", "1e-3", "--n-seeds", "2", "--n-epochs", "1"]


@pytest.fixture
def network():
    data = cnn.make_data(12, 4, n_noise=2, noise_std=0.7, feature_noise=0.2, seed=3)
    return cnn.make_weights(2, 4, init_std=0.5, seed=3), data


def run_of(kappa, lr, beta1, beta2, eps_root=1e-300, weight_decay=0.0, squares_micro_batches=True):
    settings = {"beta1": beta1, "beta2": beta2, "eps_root": eps_root}
    rule = make_rule("invariant-adam" if squares_micro_batches else "adam", settings)
    return Run(kappa, lr, dataclasses.replace(rule, weight_decay=weight_decay))


def naive(loss, micro_batches, kappa, lr, beta1, beta2, eps_root, weight_decay, squares_micro_batches):
    """The published order of updates, a micro-batch gradient at a time."""
    theta = loss.start.copy()
    m, v, step, waiting, points = np.zeros_like(theta), np.zeros_like(theta), 0, [], [theta]
    for micro_batch in micro_batches:
        waiting.append(loss.loss_and_gradient(theta, micro_batch)[1])
        if len(waiting) < kappa:
            continue
        step += 1
        m = m + sum((1 - beta1) / kappa * g for g in waiting)
        squares = [g**2 for g in waiting] if squares_micro_batches else [np.mean(waiting, axis=0) ** 2]
        v = v + sum((1 - beta2) / len(squares) * square for square in squares)
        theta = theta * (1 - lr * weight_decay)
        bias1, bias2 = (float(1 - Fraction(beta) ** step) for beta in (beta1, beta2))
        theta = theta - lr * m / bias1 / np.sqrt(v / bias2 + eps_root)
        m, v, waiting = beta1 * m, beta2 * v, []
        points.append(theta)
    return np.array(points)


@pytest.mark.parametrize("squares", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.0, 0.3), (1 - 3e-8, 1 - 1e-8)])
def test_trajectory_matches_naive(squares, betas):
    loss = landscape_of(make_least_squares(12, 3, 0.5, 1))
    settings = 3, 0.02, *betas, 1e-3, 0.1, squares
    micro_batches = draw_batches(12, 2, 36, 0)
    got = run_over(micro_batches, loss, run_of(*settings), every=3)
    np.testing.assert_allclose(got, naive(loss, micro_batches, *settings), rtol=1e-12)
    np.testing.assert_array_equal(run_over(micro_batches, loss, run_of(*settings), 9), got[::3])


def test_where_there_was_no_gradient_yet_nothing_moves(network):
    """A filter that no patch excites has gradient 0, and Adam's step 0/0; the others move."""
    weights, data = network
    weights[0, 0] = 0
    trajectory = run_over(
        draw_batches(12, 2, 8, 0), cnn_landscape(weights, data), scaled("linear", 2, 0.1, (0.9, 0.9)), 4
    )
    moved = np.abs(trajectory[-1] - trajectory[0]).reshape(weights.shape) > 0
    assert not moved[0, 0].any()
    assert moved[1].any()
    assert np.isfinite(trajectory).all()


@pytest.mark.parametrize("kappa", [1, 4])
def test_trajectory_matches_the_torch_optimizer(kappa):
    problem, micro_batches = make_least_squares(16, 4, 1.0, 2), draw_batches(16, 2, 40, 0)
    run = run_of(kappa, 0.01, 0.9, 0.95, 1e-6, 0.1)
    got = run_over(micro_batches, landscape_of(problem), run, kappa)
    theta = torch.nn.Parameter(torch.tensor(problem.theta))
    optimizer = BatchSizeInvariantAdamW([theta], 0.01, (0.9, 0.95), 0.0, 1e-6, 0.1)
    features, targets = torch.tensor(problem.features), torch.tensor(problem.targets)
    for i, micro_batch in enumerate(torch.tensor(micro_batches, dtype=torch.long), start=1):
        (0.5 * (features[micro_batch] @ theta - targets[micro_batch]) ** 2).mean().backward()
        optimizer.accumulate()
        if i % kappa == 0:
            optimizer.step()
            np.testing.assert_allclose(theta.detach().numpy(), got[i // kappa], rtol=1e-12)


def test_gradients_and_losses_match_those_of_the_problems(network):
    weights, data = network
    losses, gradients = cnn.losses(weights, data), cnn.gradients(weights, data).reshape(12, -1)
    problem = make_least_squares(12, 3, 0.5, 1)
    cases = [(cnn_landscape(*network), losses, gradients)]
    cases += [(landscape_of(problem), 0.5 * problem.residuals**2, problem.gradients)]
    for loss, want_losses, want_gradients in cases:
        for r in range(12):
            value, gradient = loss.loss_and_gradient(loss.start, np.array([r]))
            assert value == pytest.approx(want_losses[r], rel=1e-12)
            np.testing.assert_allclose(gradient, want_gradients[r], rtol=1e-12, atol=1e-15)
        value, gradient = loss.loss_and_gradient(loss.start)
        assert value == pytest.approx(want_losses.mean(), rel=1e-12)
        np.testing.assert_allclose(gradient, want_gradients.mean(axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_limit_starts_at_the_ratio_of_speeds(noise, speed):
    """One parameter, a short path: speed (g^2 + v(b) S)^(1/2) / (g^2 + v(4 b) S)^(1/2), here b = 1."""
    rng = np.random.default_rng(0)
    targets = 1 + noise * rng.standard_normal(64)
    loss = landscape_of(LeastSquares(np.ones((64, 1)), targets, np.zeros(1)))
    mean, variance = targets.mean() ** 2, targets.var()
    one, four = (mean + batch_variance_factor(64, b) * variance for b in (1, 4))
    ends = [limit_trajectory(loss, b, s, (1.0, 1.0), 1e-6, 10)[-1, 0] for b, s in ((1, 1.0), (4, speed))]
    assert ends[1] / ends[0] == pytest.approx(speed * np.sqrt(one / four), rel=1e-4)


@pytest.mark.parametrize("rule", ["invariant", "square-root", "linear"])
def test_trajectories_tend_to_the_limit(rule):
    """Not only their distances: at lr = 1e-5 each of them is within 1 % of its path of the limit."""
    case, horizon, n, kappa = CASES["least-squares-even"], 0.2, 20_000, 8
    loss, (scaling, squares) = case.loss(1), RULES[rule]
    taus = 0.025, 0.25
    lr, betas = horizon / n, [1 - horizon / n / tau for tau in taus]
    run = scaled(rule, kappa, lr, tuple(betas))
    decays = (float(weights.decay[0]) for weights in run.rule.weights)
    assert (run.lr, *decays) == scaling_rule(scaling, kappa, lr, *betas)
    assert run.rule.of_micro_batches == squares
    got = run_over(draw_batches(256, 1, n, 0), loss, run, n // 100)
    speed, size = (kappa**-0.5, kappa) if rule == "square-root" else (1.0, 1 if squares else kappa)
    want = limit_trajectory(loss, size, speed, taus, horizon, 2000)[::20]
    assert relative_distance(got, want) < 0.01
    other = limit_trajectory(loss, size, 1.1 * speed, taus, horizon, 2000)[::20]
    assert relative_distance(got, other) > 0.03


@pytest.mark.parametrize("case", list(CASES))
def test_distance_of_the_invariant_rule_has_order_1_and_others_a_floor(case):
    """Two decades from the default's largest learning rate, kappa = 8, a seed the default does not use."""
    counts, kappa = [800, 8000, 80_000], 8
    gaps = [
        slope_study.distances(CASES[case], [kappa], 0.2 / n, (1 - 8 / n, 1 - 0.8 / n), n, seed=7)
        for n in counts
    ]
    rows = slope_study.curves(case, [kappa], counts, gaps, (0.025, 0.25), 0.2, 7)
    by_rule = {row["rule"]: row for row in rows}  # the last, smallest learning rate
    assert by_rule["invariant"]["slope"] == pytest.approx(1, abs=0.1)
    assert by_rule["invariant"]["limit"] == 0
    for rule in ("square-root", "linear"):
        row = by_rule[rule]
        assert row["distance"] == pytest.approx(row["limit"], rel=0.2)
        assert row["distance"] > 30 * by_rule["invariant"]["distance"]
    assert {row["verdict"] for row in rows} <= {"accepted", ""}


def test_a_rule_that_is_not_invariant_is_violated(monkeypatch):
    """Plain Adam put in the place of the invariant rule: slope 0."""
    monkeypatch.setitem(RULES, "invariant", ("invariant", False))
    rows = slope_study.slope_rows(
        ["least-squares-even"], [2, 4], [800, 2400, 8000], (0.99, 0.999), 2.5e-4, 0.2, 10
    )
    assert {row["verdict"] for row in rows if row["rule"] == "invariant"} == {"violated"}


def test_spreads_of_written_out_losses():
    losses = np.array([[[2, 1.5, 1.0], [2, 1.0, 1.25]], [[4, 3.5, 2.0], [4, 3.0, 2.0]]])
    got = spreads(losses, np.array([[0.5, 0.75], [0.5, 1.0]]))
    want = {"fall": 1.5, "spread": 0.125, "spread_low": 0, "spread_high": 0.25, "spread_path": 0.5}
    assert got == want | {"relative": 1 / 3, "spread_accuracy": 0.375}
    losses[0, 1, 2] = np.nan
    assert spreads(losses, np.ones((2, 2)))["relative"] == np.inf
    losses[0, 0, 2] = np.inf
    assert spreads(losses, np.ones((2, 2)))["relative"] == np.inf


def test_invariance_breaks_at_the_smallest_lr_above_the_threshold():
    rows = [
        {"problem": "cnn", "rule": rule, "lr0": lr, "relative": relative}
        for rule, curve in (("a", [0.01, 0.05, 0.06, 0.01]), ("b", [0.0, 0.0, 0.0, 0.05]))
        for lr, relative in zip((1, 2, 3, 4), curve, strict=True)
    ]
    first, second = breaking_points(rows, 0.05)
    assert (first["breaks_at"], second["breaks_at"]) == (3, None)
    assert (first["smallest_relative"], first["largest_relative"]) == (0.01, 0.06)


def test_same_bytes_for_any_number_of_threads_in_every_format(tmp_path, capsys):
    for n_threads in ("1", "2"):
        files = [
            "--out",
            str(tmp_path / f"s{n_threads}.csv"),
            "--spread-out",
            str(tmp_path / f"p{n_threads}.csv"),
        ]
        assert invariance.main([*TINY, "--n-threads", n_threads, "--format", "csv", *files]) == 0
    for name in "sp":
        assert (tmp_path / f"{name}1.csv").read_bytes() == (tmp_path / f"{name}2.csv").read_bytes()
    assert invariance.main([*TINY, "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name, key in (("s", "slopes"), ("p", "spread")):
        rows = list(csv.DictReader((tmp_path / f"{name}1.csv").read_text().splitlines()))
        assert [row["lam" if key == "slopes" else "relative"] for row in rows] == [
            str(row["lam" if key == "slopes" else "relative"]) for row in result[key]
        ]
    assert len(result["slopes"]) == 3 * 2 * 3
    assert len(result["spread"]) == 2 * 3 * 2 * 3
    breaks = {(row["problem"], row["rule"]): row["breaks_at"] for row in result["breaks"]}
    assert breaks["cnn", "invariant"] is None
    assert breaks["cnn", "square-root"] == 1e-5
    assert invariance.main(TINY) == 0
    assert "breaks_at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--kappas", "2", "3"], "--kappas has 2, allowed: divisors of the largest, 3"),
        (["--kappas", "1"], "--kappas"),
        (["--kappas", "16"], "--kappas has 16, allowed: at most 8, the full batch"),
        (["--kappas", "8", "--beta1", "0.8"], "--kappas has 8, allowed: at most 5"),
        (["--horizon", "1e-4"], "--horizon 0.0001"),
        (["--horizon", "1e6"], "--horizon 1e+06"),
        (["--n-epochs", "1"], "micro-batches between two of the 16 checkpoints of 1 epochs"),
        (["--lrs", "0.1", "0.01"], "--lrs is not ascending"),
        (["--lrs", "0"], "--lrs"),
        (["--beta2", "1"], "--beta2"),
        (["--cases", "x"], "--cases"),
    ],
)
def test_rejects_bad_flags(fails, flags, named):
    assert named in fails(invariance.main, *flags)
