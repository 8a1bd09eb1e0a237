"""Every optimiser of the registry: Corr, its expectation, its refusals, against routes that share nothing with them."""

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.one_order import rule_corr, rule_updates
from adam_minibatch_noise.expansion.registry import REFUSED, make_rule, optimizer_names, settings_of
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.weight_sums import batch_correlation, weight_sums
from adam_minibatch_noise.theory import batch_variance_factor
from sim.losses.problems import make_quadratics
from tests.naive_update_rules import UPDATES
from tests.orders import batches_of, batches_without_replacement, micro_batches_of, mirrored, of_epochs

SETTINGS = {
    "sgd-momentum": [{"beta1": 0.8}],
    "nesterov": [{"beta1": 0.8}],
    "adam": [{"beta1": 0.8, "beta2": 0.95}, {"beta1": 0.8, "beta2": 0.95, "eps_root": 0.3, "eps": 0.2}],
    "adamw": [{"beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3}],
    "rmsprop": [{"beta2": 0.9, "eps_root": 0.1}],
    "nadam": [{"beta1": 0.8, "beta2": 0.95}],
    "adam-p": [
        {"beta1": 0.8, "beta2": 0.95, "power": 3.0},
        {"beta1": 0.8, "beta2": 0.95, "power": 1.0, "eps_root": 0.1},
    ],
    "ademamix": [{"beta1": 0.7, "beta2": 0.9, "beta3": 0.97, "alpha": 2.0, "eps_root": 0.1}],
    "invariant-adam": [{"beta1": 0.8, "beta2": 0.95, "eps_root": 0.1}],
    "signum-smooth": [{"beta1": 0.8, "delta": 0.5}],
    "lion-smooth": [{"beta1": 0.8, "beta2": 0.9, "delta": 0.5}],
}
CASES = [(name, settings) for name, several in SETTINGS.items() for settings in several]
LINEAR = ("sgd-momentum", "nesterov")
THETA = np.array([0.7, -1.3])


def every_name(cases):
    assert {name for name, _ in cases} == set(optimizer_names())
    return cases


def expectation(rule, problem, batch_size, n_epochs, micro_batch_size=None):
    n_batches = problem.n_samples // batch_size
    sizes = (batch_size, micro_batch_size or batch_size)
    v, micro = (float(batch_variance_factor(problem.n_samples, size)) for size in sizes)
    sums = weight_sums(rule.weights, n_batches, n_batches * n_epochs - 1)
    zeroth, terms = second_order_terms(rule, problem.moments(), sums, v, micro, THETA)
    return zeroth, sum(terms.values())


def require_order_2(name, residuals):
    """Of residuals at some noise and half of it, relative to the second order; SGD with momentum has none."""
    if name in LINEAR:
        assert max(residuals) < 1e-11
    else:
        assert residuals[1] < 1e-2
        assert np.log2(residuals[0] / residuals[1]) == pytest.approx(2, abs=0.1)


def mean_over_orders(rule, problem, batch_size, n_epochs):
    if rule.of_micro_batches:
        gradients, hessians = micro_batches_of(problem, batch_size // 2, 2)
    else:
        gradients, hessians = batches_of(problem, batch_size)
    return rule_corr(rule, of_epochs(gradients, n_epochs), of_epochs(hessians, n_epochs), THETA).mean(axis=0)


@pytest.mark.parametrize(("name", "settings"), every_name(CASES))
@pytest.mark.parametrize(("n_samples", "batch_size", "n_epochs"), [(6, 2, 1), (6, 2, 2), (8, 4, 2)])
def test_expectation_residual_falls_as_the_square_of_the_noise(
    name, settings, n_samples, batch_size, n_epochs
):
    """Relative to the second-order term, with noise whose third moments vanish; SGD with momentum has no residual."""
    rule, residuals = make_rule(name, settings), []
    if rule.of_micro_batches and n_epochs == 2:
        n_samples, batch_size = 4, 2  # there are many more orders of micro-batches
    micro = batch_size // 2
    for amplitude in (2.0, 1.0) if name in LINEAR else (0.04, 0.02):
        problem = mirrored(n_samples, 2, amplitude, 3)
        mean = mean_over_orders(rule, problem, batch_size, n_epochs)
        zeroth, added = expectation(rule, problem, batch_size, n_epochs, micro)
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    require_order_2(name, residuals)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_corr_is_the_derivative_of_the_memory(name, settings, rng):
    """Central differences of F_t, written out, as step k moves back to theta + s u_{t,k}, where it was taken."""
    rule, n_micro, d, n_batches = make_rule(name, settings), 2, 2, 4
    gradients = rng.standard_normal((n_batches, n_micro, d)) + 2
    hessians = rng.standard_normal((n_batches, n_micro, d, d))
    hessians = hessians + hessians.swapaxes(-1, -2)
    update, t = UPDATES[name], n_batches - 1
    steps = [update(gradients[: step + 1], THETA, **settings) for step in range(t)]
    behind = np.array([sum(steps[k:]) for k in range(t)] + [np.zeros(d)])

    def shifted(s):
        moved = gradients + s * np.einsum("kaij,kj->kai", hessians, behind)
        return update(moved, THETA, **settings)

    want = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    if not rule.of_micro_batches:
        gradients, hessians = gradients.mean(axis=1), hessians.mean(axis=1)
    got = rule_corr(rule, gradients, hessians, THETA)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(rule_updates(rule, gradients, THETA)[:t], steps, rtol=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_corr_of_many_orders_is_that_of_each(name, settings):
    rule = make_rule(name, settings)
    gradients, hessians = micro_batches_of(make_quadratics(6, 2, 0.3, 1), 1, 2)
    if not rule.of_micro_batches:
        gradients, hessians = gradients.mean(axis=2), hessians.mean(axis=2)
    each = [rule_corr(rule, g, h, THETA) for g, h in zip(gradients[:9], hessians[:9], strict=True)]
    np.testing.assert_allclose(rule_corr(rule, gradients[:9], hessians[:9], THETA), each, rtol=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_epochs_that_leave_samples_out_match_enumeration(name, settings):
    """N = 7, batches of 2, 3 an epoch; odd orders cancel between a problem and its mirror image."""
    rule = make_rule(name, settings)
    orders = np.array(batches_without_replacement(range(7), 2, 3))
    correlation, residuals = batch_correlation(7, 2), []
    v, v_micro = (float(batch_variance_factor(7, size)) for size in (2, 1))
    for amplitude in (2.0, 1.0) if name in LINEAR else (0.04, 0.02):
        mean = np.zeros(2)
        for sign in (1, -1):
            noisy = make_quadratics(7, 2, 1.0, 5).with_noise(sign * amplitude)
            gradients, hessians = noisy.gradients[orders], noisy.hessians[orders]
            if not rule.of_micro_batches:
                gradients, hessians = gradients.mean(axis=2), hessians.mean(axis=2)
            mean += rule_corr(rule, gradients, hessians, THETA).mean(axis=0) / 2
        sums = weight_sums(rule.weights, 3, 2, correlation)
        zeroth, terms = second_order_terms(rule, noisy.moments(), sums, v, v_micro, THETA)
        added = sum(terms.values())
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    require_order_2(name, residuals)


# --------------------------------------------------------------------------------------------------- reductions
def test_optimizers_reduce_to_each_other():
    problem, adam = make_quadratics(6, 2, 0.3, 0), {"beta1": 0.8, "beta2": 0.95, "eps_root": 0.1}

    def value(name, settings):
        return np.array(expectation(make_rule(name, settings), problem, 2, 2, 2))

    reference = value("adam", adam)
    for name, settings in (
        ("adamw", adam | {"weight_decay": 0.0}),
        ("invariant-adam", adam),
        ("ademamix", adam | {"alpha": 0.0}),
    ):
        np.testing.assert_allclose(value(name, settings), reference, rtol=1e-12, err_msg=name)
    plain = {"beta1": 0.8, "beta2": 0.95}
    np.testing.assert_allclose(value("adam-p", plain | {"power": 2.0}), value("adam", plain), rtol=1e-12)
    no_first = {"beta2": 0.95, "eps": 0.2}
    without = value("rmsprop", no_first)
    for name in ("adam", "nadam"):
        np.testing.assert_allclose(value(name, no_first | {"beta1": 0.0}), without, rtol=1e-12, err_msg=name)
    sign = {"beta1": 0.9, "delta": 0.5}
    np.testing.assert_allclose(value("lion-smooth", sign | {"beta2": 0.0, "beta1": 0.0}), 0, atol=1e-15)


# ------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_of_another_form_is_refused_with_the_reason(name):
    with pytest.raises(InputError, match=f"{name}.*: {REFUSED[name]}"):
        make_rule(name)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("adm", {}, r"allowed: sgd-momentum, .*nearest: adam"),
        ("adam", {"beta3": 0.9}, "adam has no setting beta3, allowed: beta1, beta2, eps_root, eps"),
        ("adam", {"beta1": 1.0}, "beta1 is 1.0, allowed: >= 0 and < 1"),
        ("signum-smooth", {"delta": 0.0}, "delta is 0.0, allowed"),
        ("adam-p", {"power": 0.5}, "power is 0.5, allowed"),
        ("adamw", {"weight_decay": -1.0}, "weight_decay is -1.0, allowed"),
    ],
)
def test_make_rule_rejects(name, settings, words):
    with pytest.raises(InputError, match=words):
        make_rule(name, settings)


def test_what_is_missing_is_said():
    problem = make_quadratics(6, 2, 0.1, 0)
    adamw, invariant = make_rule("adamw"), make_rule("invariant-adam")
    with pytest.raises(InputError, match=r"weight_decay is 0\.01: needs the parameters"):
        second_order_terms(adamw, problem.moments(), weight_sums(adamw.weights, 3, 2), 0.1)
    with pytest.raises(InputError, match="needs their variance factor"):
        second_order_terms(invariant, problem.moments(), weight_sums(invariant.weights, 3, 2), 0.1)
    with pytest.raises(InputError, match="n_micro_batches"):
        rule_corr(invariant, problem.gradients, problem.hessians)
    with pytest.raises(InputError, match="hessians has shape"):
        rule_corr(make_rule("adam"), problem.gradients, problem.hessians[:3])
    with pytest.raises(InputError, match="none of them 0"):
        rule_corr(make_rule("adam"), np.ones((0, 2)), np.ones((0, 2, 2)))


def test_every_setting_has_a_default_that_is_in_its_range():
    for name in optimizer_names():
        assert make_rule(name, settings_of(name)) is not None
