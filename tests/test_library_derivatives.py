"""Derivatives of formulas: the table of the built-in ones, a formula of one's own, and what is refused."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion import derivative_table, registry
from adam_minibatch_noise.expansion.averaging import momentum_sum
from adam_minibatch_noise.expansion.derivatives import derivatives_of
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, register
from adam_minibatch_noise.expansion.update_rule import Average, UpdateRule
from config import make_derivatives

CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_the_table_is_what_sympy_derives():
    """If not: `make schema` writes it anew."""
    assert Path(derivative_table.__file__).read_text() == make_derivatives.table()


@pytest.mark.parametrize(
    ("formula", "variables", "settings"),
    [
        (formula, variables, ("eps_root", "eps", "alpha", "delta", "power"))
        for formula, variables in derivative_table.SOURCES
    ]
    + [("z1*z2**2/(1 + z1**2) + c*sqrt(z2)", ("z1", "z2"), ("c",))],
)
def test_derivatives_match_differences(formula, variables, settings):
    """Each order is the central difference of the order below."""
    numbers = dict.fromkeys(settings, 0.7) | {"power": 2.5}
    at = derivatives_of(formula, variables, settings)
    point, step = np.linspace(0.8, 1.7, len(variables)), 1e-5
    found = at(point[:, None], numbers)
    for i, move in enumerate(step * np.eye(len(variables))):
        above, below = (at((point + sign * move)[:, None], numbers) for sign in (1, -1))
        for order, lower in (("first", "value"), ("second", "first"), ("third", "second")):
            difference = (getattr(above, lower) - getattr(below, lower)) / (2 * step)
            np.testing.assert_allclose(getattr(found, order)[i], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("z1 +", r"'z1 \+' cannot be read, allowed: an expression in z1, eps"),
        ("z1/sqrt(z2 + x)", "holds x, z2, allowed: z1, eps"),
    ],
)
def test_formulas_are_refused(formula, words):
    with pytest.raises(InputError, match=words):
        derivatives_of(formula, ("z1",), ("eps",))


def test_without_sympy_the_built_in_optimizers_work_and_others_say_what_is_missing(monkeypatch):
    derivatives_of.cache_clear()
    monkeypatch.setitem(sys.modules, "sympy", None)
    for name in optimizer_names():
        rule = make_rule(name)
        assert np.isfinite(rule.update(np.ones((len(rule.averages), 1))).third).all()
    with pytest.raises(InputError, match=r"install adam-minibatch-noise\[symbolic\]"):
        derivatives_of("z1**3", ("z1",), ())


def test_an_optimizer_of_one_s_own_as_in_contributing(monkeypatch):
    """Its definition is less than ten lines, and the second order meets the enumeration of all orders."""
    from adam_minibatch_noise.expansion.one_order import rule_corr
    from tests.orders import batches_of, mirrored
    from tests.test_library_update_rules import expectation

    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "@register" in block]
    definition = code[code.index("@register") : code.index("\n\n\nprint")]
    assert len(definition.splitlines()) < 10
    before = set(optimizer_names())
    exec(code, {})
    (name,) = set(optimizer_names()) - before
    rule, residuals = make_rule(name), []
    for amplitude in (0.04, 0.02):
        problem = mirrored(6, 2, amplitude, 3)
        mean = rule_corr(rule, *batches_of(problem, 2)).mean(axis=0)
        zeroth, added = expectation(rule, problem, 2, 1)
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    assert np.log2(residuals[0] / residuals[1]) == pytest.approx(2, abs=0.1)


def test_register_refuses(monkeypatch):
    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))

    def mine(beta1):
        return UpdateRule("mine", "z1", (Average("g", momentum_sum(beta1)),))

    for name, words in (
        ("adam", "exists already"),
        ("muon", "exists already"),
        ("mine", "beta1 .* has no default"),
    ):
        with pytest.raises(InputError, match=words):
            register(name)(mine)
