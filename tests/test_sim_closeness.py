import csv
import json

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.one_order import rule_corr
from adam_minibatch_noise.expansion.registry import make_rule
from common.cli import run
from sim import closeness
from sim.losses import cnn
from sim.losses.landscapes import cnn_landscape, landscape_of
from sim.losses.problems import Quadratics
from sim.memory import closeness_study, memoryless
from sim.memory.order_of_error import fit_slope, learning_rates
from sim.monte_carlo.sampling import draw_batches
from tests.naive_update_rules import UPDATES

ADAM = {"beta1": 0.5, "beta2": 0.6, "eps_root": 1e-2}
SETTINGS = {
    "sgd-momentum": {"beta1": 0.5},
    "adam": ADAM,
    "nesterov": {"beta1": 0.5},
    "adamw": ADAM | {"weight_decay": 0.3},
    "rmsprop": {"beta2": 0.6, "eps_root": 1e-2},
    "nadam": ADAM,
    "adam-p": ADAM | {"power": 3.0},
    "invariant-adam": ADAM,
    "ademamix": ADAM | {"beta3": 0.7, "alpha": 2.0},
    "signum-smooth": {"beta1": 0.5, "delta": 0.1},
    "lion-smooth": {"beta1": 0.6, "beta2": 0.5, "delta": 0.1},
}
each_problem = pytest.mark.parametrize("problem", closeness.PROBLEMS)
CASES = [(problem, name) for problem in closeness.PROBLEMS for name in closeness.DEFAULT]
CASES += [("quadratics", name) for name in SETTINGS if name not in closeness.DEFAULT]
each_case = pytest.mark.parametrize(("problem", "name"), CASES)


def rule_of(name):
    return make_rule(name, SETTINGS[name])


def steps(name, batches):
    """Batches (n_steps, batch_size) as the rule takes them, in micro-batches of one sample where it averages these."""
    return batches[..., None] if rule_of(name).of_micro_batches else batches


def batch_means(derivatives, theta, batches):
    """Gradients and Hessians of a sequence of batches or micro-batches at one point, (n_batches, ...)."""
    gradients, hessians = derivatives(theta)
    return gradients[batches].mean(axis=-2), hessians[batches].mean(axis=-3)


def naive_derivatives(landscape, problem, seed=0):
    """Per-sample gradients and Hessians at any theta, without the landscape's jitted function."""
    if problem == "cnn":
        patches, labels, q = landscape.arrays
        data = cnn.CnnData(patches, labels, np.zeros(len(labels), int))
        basis = np.eye(landscape.start.size)

        def derivatives(theta):
            weights = theta.reshape(2, -1, data.patch_length)
            products = [
                cnn.hessian_vector_products(weights, e.reshape(weights.shape), data, q) for e in basis
            ]
            hessians = np.stack(products, axis=-1).reshape(len(labels), theta.size, theta.size)
            return cnn.gradients(weights, data, q).reshape(len(labels), -1), hessians

        return derivatives
    if problem == "least-squares":
        rows, targets = landscape.arrays
        return lambda theta: (rows * (rows @ theta - targets)[:, None], rows[:, :, None] * rows[:, None])
    gradients, hessians = landscape.arrays
    return lambda theta: (gradients + hessians @ theta, hessians)


def naive_main(gradients, name, theta):
    """F_t from the gradients of steps 0..t, as the authors of the optimiser state it."""
    gradients = gradients if rule_of(name).of_micro_batches else gradients[:, None]
    return UPDATES[name](gradients, theta, **SETTINGS[name])


@each_case
@pytest.mark.parametrize("correction", [1.0, 0.0])
def test_without_memory_matches_naive(problem, name, correction):
    landscape, lr = closeness_study.make_landscape(problem, 0), 0.03
    batches = steps(name, draw_batches(12, 2, 9, 0))
    trajectory = memoryless.without_memory(landscape, rule_of(name), batches, lr, correction)
    derivatives, theta = naive_derivatives(landscape, problem), landscape.start
    for t in range(len(batches)):
        gradients, hessians = batch_means(derivatives, theta, batches[: t + 1])
        step = lr * naive_main(gradients, name, theta)
        step += correction * lr**2 * rule_corr(rule_of(name), gradients, hessians, theta)
        theta = theta - step
        np.testing.assert_allclose(trajectory[t + 1], theta, rtol=1e-12, atol=1e-12)
    assert np.abs(theta - landscape.start).max() > 0.01


@each_case
def test_with_memory_matches_naive(problem, name):
    landscape, lr = closeness_study.make_landscape(problem, 0), 0.03
    batches = steps(name, draw_batches(12, 2, 9, 0))
    trajectory = memoryless.with_memory(landscape, rule_of(name), batches, lr)
    derivatives, theta, gradients = naive_derivatives(landscape, problem), landscape.start, []
    for t in range(len(batches)):
        gradients.append(batch_means(derivatives, theta, batches[t : t + 1])[0][0])  # at its own theta
        theta = theta - lr * naive_main(np.array(gradients), name, theta)
        np.testing.assert_allclose(trajectory[t + 1], theta, rtol=1e-12, atol=1e-12)


def test_with_memory_matches_torch_sgd():
    data = cnn.make_data(12, 4, 2, 0.7, 0.2, 3)
    weights = cnn.make_weights(2, 4, 0.5, 3)
    batches = draw_batches(12, 2, 20, 3)
    trajectory = memoryless.with_memory(
        cnn_landscape(weights, data), make_rule("sgd-momentum", {"beta1": 0.9}), batches, 0.02
    )
    filters = torch.tensor(weights, requires_grad=True)
    patches, labels = torch.tensor(data.patches), torch.tensor(data.labels)
    optimizer = torch.optim.SGD([filters], lr=0.02, momentum=0.9)
    for t, batch in enumerate(batches):
        optimizer.zero_grad()
        scores = (torch.relu(torch.einsum("jrl,npl->njrp", filters, patches[batch])) ** 3).sum(dim=(2, 3))
        torch.nn.functional.cross_entropy(scores, (labels[batch] < 0).long()).backward()
        optimizer.step()
        np.testing.assert_allclose(
            trajectory[t + 1], filters.detach().numpy().ravel(), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("t", [0, 1, 5, 150])
def test_main_and_corr_match_naive_at_any_step(name, t):
    assert 5 < memoryless.n_lags_of(rule_of(name)) < 130  # at t = 150 negligible steps are left out
    landscape = closeness_study.make_landscape("quadratics", 2)
    theta = landscape.start + 0.1
    batches = steps(name, draw_batches(12, 3, t + 1, 1))
    gradients, hessians = naive_derivatives(landscape, "quadratics")(theta)
    main, corr = memoryless.main_and_corr(gradients, hessians, rule_of(name), batches, theta)
    g, h = gradients[batches].mean(axis=-2), hessians[batches].mean(axis=-3)
    np.testing.assert_allclose(main, naive_main(g, name, theta), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(corr, rule_corr(rule_of(name), g, h, theta), rtol=1e-12, atol=1e-12)


def test_rounding_does_not_pile_up():
    landscape = landscape_of(Quadratics(np.full((1, 1), 1.0), np.zeros((1, 1, 1))))
    n_steps, lr = 20_000, 0.1  # no power of two: every plain subtraction would round
    batches = np.zeros((n_steps, 1), int)
    for correction in (None, 0.0):
        rule = make_rule("sgd-momentum", {"beta1": 0.0})
        trajectory = (
            memoryless.with_memory(landscape, rule, batches, lr)
            if correction is None
            else memoryless.without_memory(landscape, rule, batches, lr, correction)
        )
        np.testing.assert_allclose(trajectory[-1], -n_steps * lr, rtol=4e-16)
        assert abs(np.cumsum(np.full(n_steps, lr))[-1] / (n_steps * lr) - 1) > 1e-13  # the plain sum


def slope(problem, name, correction):
    lr, n_steps = learning_rates(lr_max=5e-4, n_decades=1.5, n_lr=4, horizon=0.03)
    landscape = closeness_study.make_landscape(problem, 0)
    batches = steps(name, draw_batches(12, 2, n_steps[-1], 0))
    gaps = [
        memoryless.distance(landscape, rule_of(name), batches[:n], rate, correction)
        for rate, n in zip(lr, n_steps, strict=True)
    ]
    return fit_slope(lr, np.array(gaps))[0]


@each_case
def test_with_correction_error_has_order_2(problem, name):
    assert abs(slope(problem, name, 1.0) - 2) < 0.1


@each_case
@pytest.mark.parametrize("correction", [0.0, -1.0, 0.8])  # none, of the wrong sign, a fifth too small
def test_without_the_right_correction_error_has_order_1(problem, name, correction):
    expected = 1.0 if correction != 0.8 else 1.25
    assert abs(slope(problem, name, correction) - 1) < 0.1 + (expected - 1)


def test_fit_slope_matches_polyfit():
    rng = np.random.default_rng(0)
    lr = 10.0 ** -np.arange(6)
    gaps = lr**1.5 * np.exp(0.1 * rng.standard_normal(6))
    line, covariance = np.polyfit(np.log(lr), np.log(gaps), 1, cov=True)
    np.testing.assert_allclose(fit_slope(lr, gaps), (line[0], np.sqrt(covariance[0, 0])), rtol=1e-10)


def test_learning_rates_keep_the_horizon():
    lr, n_steps = learning_rates(lr_max=1e-2, n_decades=3, n_lr=10, horizon=0.3)
    np.testing.assert_allclose(lr * n_steps, 0.3, rtol=1e-14)
    np.testing.assert_allclose(np.log10(lr[0] / lr[-1]), 3, atol=0.02)
    assert not (learning_rates(1e-2, 3, 10, 0.3, multiple=8)[1] % 8).any()


def test_draw_batches_reshuffles_every_epoch():
    batches = draw_batches(12, 3, 40, 7)
    assert (np.sort(batches.reshape(10, 12), axis=1) == np.arange(12)).all()
    assert len(np.unique(batches.reshape(10, 12), axis=0)) == 10
    np.testing.assert_array_equal(draw_batches(12, 3, 17, 7), batches[:17])


def flags(*more):
    small = "--beta1 0.5 --beta2 0.6 --eps-root 0.01 --lr-max 5e-4 --n-decades 1 --n-lr 3 --horizon 0.02"
    return [*small.split(), *more]


def status(argv):
    with pytest.raises(SystemExit) as stop:
        run(closeness.main, argv)
    return stop.value.code


def test_main_reports_every_slope(capsys):
    assert status(flags("--problem", "cnn", "--format", "json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["slopes"]) == 4
    assert len(report["points"]) == 12
    assert all(fit["verdict"] == "accepted" for fit in report["slopes"])
    assert status(flags("--problem", "cnn", "--optimizer", "adam")) == 0
    assert capsys.readouterr().out.count("accepted") == 2


def test_main_takes_other_optimizers(capsys):
    words = "--problem quadratics --optimizer nadam lion-smooth --delta 0.1 --format json"
    assert status(flags(*words.split())) == 0
    report = json.loads(capsys.readouterr().out)
    assert {fit["optimizer"] for fit in report["slopes"]} == {"nadam", "lion-smooth"}
    used = {(row["optimizer"], row["eps_root"], row["delta"]) for row in report["points"]}
    assert used == {("nadam", 0.01, None), ("lion-smooth", None, 0.1)}


def test_main_fails_on_a_wrong_correction(monkeypatch, capsys):
    right = memoryless.distance
    monkeypatch.setattr(closeness_study, "distance", lambda *args: right(*args[:-1], -args[-1]))
    sgd = [word for word in flags() if word not in ("--beta2", "0.6", "--eps-root", "0.01")]
    assert status([*sgd, "--problem", "quadratics", "--optimizer", "sgd-momentum"]) == 1
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in table[2:]] == ["violated", "accepted"]


@pytest.mark.parametrize(
    "more", ["--horizon 0.001", "--beta2 0.98", "--beta1 0.9 --beta2 0 --eps-root 1e-5 --horizon 0.05"]
)
def test_runs_too_short_for_the_limit_are_not_accepted_and_decide_nothing(more, capsys):
    assert status(flags("--problem", "quadratics", "--optimizer", "adam", *more.split())) == 1
    captured = capsys.readouterr()
    n_undecided = captured.out.count("undecided")
    assert n_undecided
    assert captured.err.startswith(f"{n_undecided} of 2 slopes are undecided")


@pytest.mark.parametrize(
    ("distances", "memory", "verdict"),
    [
        ([1, 0.1, 0.01, 0.001], 10, "violated"),  # 1000 steps: just long enough
        ([1, 0.1, 0.01, 0.001], 10.1, "undecided"),
        ([1, 0.1, 0.01, 0.0001], 10, "undecided"),  # the last slope is right
        ([1, 2, 0.01, 0.005], 10, "undecided"),  # no line
        ([1, 0.01, 1e-4, 1e-6], 1e9, "accepted"),
    ],
)
def test_slope_that_is_off_is_a_violation_only_where_it_must_be_right(distances, memory, verdict):
    lr, n_steps = 10.0 ** -np.arange(4), np.array([1, 10, 100, 1000])
    fit = fit_slope(lr, np.array(distances))
    curve = closeness_study.Curve("cnn", "adam", "with", lr, n_steps, np.array(distances), *fit, memory)
    assert curve.verdict == verdict


def test_csv_has_one_row_a_point(tmp_path):
    out = tmp_path / "closeness.csv"
    assert status(flags("--format", "csv", "--out", str(out))) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 3 * 2 * 2 * 3
    names = ["problem", "optimizer", "correction", "lr", "n_steps", "distance", "slope", "slope_stderr"]
    assert list(rows[0])[:8] == names


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--horizon", "1e4"], "allowed: 1 to 1000000"),
        (["--horizon", "1e-9"], "allowed: 1 to 1000000"),
        (["--horizon", "1e-3", "--n-decades", "0.1"], "no two runs of the same number of steps"),
        (["--n-lr", "2"], "--n-lr: is '2', allowed: a whole number >= 3 and <= 100"),
        (["--beta1", "0", "--problem", "quadratics"], "betas that are memory"),
        (["--optimizer", "adam", "adam"], "--optimizer has adam, allowed: each once"),
        (
            ["--problem", "quadratics", "--optimizer", "invariant-adam", "--micro-batch-size", "3"],
            "--micro-batch-size is 3, allowed: a divisor of 2",
        ),
        (["--beta1", "1"], "allowed: a finite number >= 0 and < 1"),
        (["--eps-root", "0", "--problem", "cnn", "--optimizer", "adam"], "divides by zero"),
    ],
)
def test_main_rejects_what_cannot_be_fitted(argv, message, tmp_path, capsys):
    out = tmp_path / "closeness.csv"
    given = flags(*argv) if "csv" in argv else flags("--format", "csv", "--out", str(out), *argv)
    assert status(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_distance_rejects_trajectories_that_diverge():
    landscape = closeness_study.make_landscape("quadratics", 0)
    batches = draw_batches(12, 2, 2000, 0)
    with pytest.raises(InputError, match="diverges or divides by zero"):
        memoryless.distance(landscape, make_rule("sgd-momentum", {"beta1": 0.9}), batches, 10.0, 1.0)
