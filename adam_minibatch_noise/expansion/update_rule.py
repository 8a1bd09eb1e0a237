r"""The one contract of all optimisers with exponential averages: what distinguishes one from another.

    z_{a,t} = sum_{k<=t} w^a_{t,k} psi_a(g_k),     F_t = Phi(z_1, .., z_K) + weight_decay theta_t,

component by component, with g_k the gradient of batch k at the parameters of its step, theta_{t+1} = theta_t - lr F_t.
An optimiser is its functions psi_a, its formula Phi and its weights w^a; its correction Corr_t (`one_order`), the
expectation of it (`second_order`) and its constants (`constants`) follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import Weights
from adam_minibatch_noise.expansion.derivatives import Derivatives, derivatives_of
from adam_minibatch_noise.theory import Array

EPS = ("eps", "eps_root")
"""Settings that keep a formula away from 0/0; constants and C_total are those for which both tend to 0."""


@dataclass(frozen=True, eq=False)
class Average:
    """An average of a function of the gradient.

    Attributes
    ----------
    function : str
        psi of ``g`` and of the rule's settings, such as "g**2"; three times differentiable where g is not 0.
    weights : Weights
    of_micro_batches : bool
        Whether psi is taken of every micro-batch gradient and then averaged over the batch.
    """

    function: str
    weights: Weights
    of_micro_batches: bool = False


@dataclass(frozen=True, eq=False)
class UpdateRule:
    """An elementwise optimiser with exponential averages.

    Attributes
    ----------
    name : str
    formula : str
        Phi of ``z1``, ``z2``, .. and of the settings, such as "z1/sqrt(z2 + eps_root)".
    averages : tuple of Average
        What z1, z2, .. stand for.
    settings : mapping of str to float
        The numbers by which formula and functions call them.
    weight_decay : float
        >= 0; decoupled.
    """

    name: str
    formula: str
    averages: tuple[Average, ...]
    settings: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Those of every average."""
        return tuple(average.weights for average in self.averages)

    @property
    def of_micro_batches(self) -> bool:
        """Whether an average is taken over micro-batches."""
        return any(average.of_micro_batches for average in self.averages)

    def functions(self, g: Array) -> "list[Derivatives]":
        """Psi and its three derivatives of every average at gradients of any shape."""
        return [
            derivatives_of(average.function, ("g",), tuple(self.settings))(g[None], self.settings)
            for average in self.averages
        ]

    def update(self, z: Array) -> Derivatives:
        """Phi and its derivatives at averages (n_averages, ...)."""
        variables = tuple(f"z{a + 1}" for a in range(len(self.averages)))
        return derivatives_of(self.formula, variables, tuple(self.settings))(z, self.settings)

    def without_eps(self) -> "UpdateRule":
        """The same rule with `eps` and `eps_root` 0."""
        return replace(self, settings={name: 0.0 if name in EPS else x for name, x in self.settings.items()})

    @property
    def is_scale_invariant(self) -> bool:
        """Whether the update at one gradient, over and over, is the same for any multiple of it, as eps -> 0."""
        rule = self.without_eps()
        with np.errstate(all="ignore"):
            one, other = rule.update(
                np.array([psi.value for psi in rule.functions(np.array([1.0, 3.0]))])
            ).value
        return all(weights.unit_mass for weights in self.weights) and bool(np.isclose(one, other, rtol=1e-9))

    def require_scale_invariance(self) -> None:
        """Raise InputError unless `is_scale_invariant`."""
        if not self.is_scale_invariant:
            raise InputError(
                f"the update of {self.name} is not the same for every multiple of a gradient: it has no constants and "
                "no C_total; E[Corr] itself has no such condition"
            )

    def require_parameters(self, theta: Array | None) -> Array | None:
        """Return the parameters times the weight decay, None without decay; raise InputError if they are missing."""
        if not self.weight_decay:
            return None
        if theta is None:
            raise InputError(
                f"weight_decay is {self.weight_decay:g}: needs the parameters theta, which are not known"
            )
        return self.weight_decay * np.asarray(theta, np.float64)
