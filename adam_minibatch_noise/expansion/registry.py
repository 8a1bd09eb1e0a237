"""The optimisers known by name, their settings, and those that are not of the form."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import (
    lion_average,
    momentum_sum,
    moving_average,
    nadam_average,
    nesterov_sum,
    newest_batch,
)
from adam_minibatch_noise.expansion.update_rule import Average, UpdateRule
from adam_minibatch_noise.ranges import AT_LEAST_ONE, BETA, NONNEGATIVE, POSITIVE, Range, within

Maker = Callable[..., UpdateRule]
_MAKERS: dict[str, Maker] = {}
RANGES: dict[str, Range] = {
    "beta1": BETA,
    "beta2": BETA,
    "beta3": BETA,
    "eps": NONNEGATIVE,
    "eps_root": NONNEGATIVE,
    "delta": POSITIVE,
    "alpha": NONNEGATIVE,
    "power": AT_LEAST_ONE,
    "weight_decay": NONNEGATIVE,
}
"""What a setting of that name may be; any finite number where a user's setting has another name."""
NESTED = "an average is taken of something that holds another average"
NOT_ELEMENTWISE = "the step of a parameter depends on the gradients of others"
REFUSED = {
    "adabelief": NESTED,
    "adopt": NESTED,
    "laprop": NESTED,
    "adafactor": NOT_ELEMENTWISE,
    "shampoo": NOT_ELEMENTWISE,
    "soap": NOT_ELEMENTWISE,
    "muon": NOT_ELEMENTWISE,
    "lamb": NOT_ELEMENTWISE,
    "lars": NOT_ELEMENTWISE,
}
"""Optimisers that are not of the form of `update_rule`, and why."""


def register(name: str) -> Callable[[Maker], Maker]:
    """Add an optimiser: a function of settings, all with defaults, that returns an `UpdateRule`.

    Raises
    ------
    InputError
        If the name is taken, or a setting has no default.
    """

    def add(maker: Maker) -> Maker:
        if name in _MAKERS or name in REFUSED:
            raise InputError(f"optimizer {name!r} exists already, allowed: another name")
        for setting in inspect.signature(maker).parameters.values():
            if setting.default is inspect.Parameter.empty:
                raise InputError(
                    f"setting {setting.name} of optimizer {name!r} has no default, allowed: one for each"
                )
        _MAKERS[name] = maker
        return maker

    return add


def optimizer_names() -> tuple[str, ...]:
    """Return the names that `make_rule` takes."""
    return tuple(_MAKERS)


def settings_of(name: str) -> dict[str, float]:
    """Return the settings of an optimiser and their defaults; raise InputError as `make_rule` does."""
    return {key: one.default for key, one in inspect.signature(_maker(name)).parameters.items()}


def make_rule(name: str, settings: Mapping[str, Any] | None = None) -> UpdateRule:
    """Make the update rule of an optimiser.

    Parameters
    ----------
    name : str
        One of `optimizer_names`.
    settings : mapping of str to float, optional
        Some of `settings_of`; those left out have their defaults. Decays may be arrays (`Weights`).

    Raises
    ------
    InputError
        An optimiser that is not known or not of this form, a setting that it does not have or that is out of its range.
    """
    maker, settings = _maker(name), settings or {}
    known = settings_of(name)
    for key, value in settings.items():
        if key not in known:
            raise InputError(f"{name} has no setting {key}, allowed: {', '.join(known) or 'none'}")
        if key in RANGES:
            within(key, value, RANGES[key])
    return maker(**settings)


def _maker(name: str) -> Maker:
    if name in REFUSED:
        raise InputError(
            f"optimizer is {name!r}, which is not a function of exponential averages of each component: {REFUSED[name]}"
        )
    if name not in _MAKERS:
        near = difflib.get_close_matches(name, _MAKERS, 1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise InputError(f"optimizer is {name!r}, allowed: {', '.join(_MAKERS)}{hint}")
    return _MAKERS[name]


# ------------------------------------------------------------------------------------------- SGD with momentum
LINEAR = "z1"


@register("sgd-momentum")
def _sgd_momentum(beta1: float = 0.9) -> UpdateRule:
    return UpdateRule("sgd-momentum", LINEAR, (Average("g", momentum_sum(beta1)),))


@register("nesterov")
def _nesterov(beta1: float = 0.9) -> UpdateRule:
    return UpdateRule("nesterov", LINEAR, (Average("g", nesterov_sum(beta1)),))


# ----------------------------------------------------------------------------------------------- the Adam family
ADAM = "z1/(sqrt(z2 + eps_root) + eps)"


@register("adam")
def _adam(beta1: float = 0.9, beta2: float = 0.999, eps_root: float = 0.0, eps: float = 0.0) -> UpdateRule:
    averages = Average("g", moving_average(beta1)), Average("g**2", moving_average(beta2))
    return UpdateRule("adam", ADAM, averages, {"eps_root": eps_root, "eps": eps})


@register("adamw")
def _adamw(
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps_root: float = 0.0,
    eps: float = 0.0,
    weight_decay: float = 0.01,
) -> UpdateRule:
    averages = Average("g", moving_average(beta1)), Average("g**2", moving_average(beta2))
    return UpdateRule("adamw", ADAM, averages, {"eps_root": eps_root, "eps": eps}, weight_decay)


@register("rmsprop")
def _rmsprop(beta2: float = 0.99, eps_root: float = 0.0, eps: float = 0.0) -> UpdateRule:
    averages = Average("g", newest_batch()), Average("g**2", moving_average(beta2))
    return UpdateRule("rmsprop", ADAM, averages, {"eps_root": eps_root, "eps": eps})


@register("nadam")
def _nadam(beta1: float = 0.9, beta2: float = 0.999, eps_root: float = 0.0, eps: float = 0.0) -> UpdateRule:
    averages = Average("g", nadam_average(beta1)), Average("g**2", moving_average(beta2))
    return UpdateRule("nadam", ADAM, averages, {"eps_root": eps_root, "eps": eps})


@register("adam-p")
def _adam_p(
    beta1: float = 0.9, beta2: float = 0.999, power: float = 3.0, eps_root: float = 0.0
) -> UpdateRule:
    averages = Average("g", moving_average(beta1)), Average("abs(g)**power", moving_average(beta2))
    return UpdateRule(
        "adam-p", "z1/(z2 + eps_root)**(1/power)", averages, {"power": power, "eps_root": eps_root}
    )


ADEMAMIX = "(z1 + alpha*z3)/sqrt(z2 + eps_root)"


@register("ademamix")
def _ademamix(
    beta1: float = 0.9, beta2: float = 0.999, beta3: float = 0.9999, alpha: float = 5.0, eps_root: float = 0.0
) -> UpdateRule:
    averages = (
        Average("g", moving_average(beta1)),
        Average("g**2", moving_average(beta2)),
        Average("g", moving_average(beta3)),
    )
    settings = {"alpha": alpha, "eps_root": eps_root}
    return UpdateRule("ademamix", ADEMAMIX, averages, settings)


@register("invariant-adam")
def _invariant_adam(
    beta1: float = 0.9, beta2: float = 0.999, eps_root: float = 0.0, eps: float = 0.0
) -> UpdateRule:
    squares = Average("g**2", moving_average(beta2), of_micro_batches=True)
    averages = Average("g", moving_average(beta1)), squares
    return UpdateRule("invariant-adam", ADAM, averages, {"eps_root": eps_root, "eps": eps})


# ------------------------------------------------------------------------------------------------- smooth signs
SIGN = "z1/sqrt(z1**2 + delta)"


@register("signum-smooth")
def _signum_smooth(beta1: float = 0.9, delta: float = 1e-2) -> UpdateRule:
    return UpdateRule("signum-smooth", SIGN, (Average("g", moving_average(beta1)),), {"delta": delta})


@register("lion-smooth")
def _lion_smooth(beta1: float = 0.9, beta2: float = 0.99, delta: float = 1e-2) -> UpdateRule:
    return UpdateRule("lion-smooth", SIGN, (Average("g", lion_average(beta1, beta2)),), {"delta": delta})
