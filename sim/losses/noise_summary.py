r"""How large the batch noise of a problem is: B_simple, lambda and rho, and the C_total that follows from them.

rho is the largest deviation of a batch gradient from the gradient g, over batches and components, relative to that
component of g. The expansion in the noise converges, and its remainder has a bound, where rho < sqrt(2) - 1, for a
smooth sign where rho < sqrt(1 + delta/g_j^2) (`expansion.bounds`). As rho^2 >= E d_j^2/g_j^2 for every component j, it
is at least lambda = E|d|^2/|g|^2 too: from lambda = (sqrt(2) - 1)^2 on, no problem is inside the first range.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise.expansion.bounds import RADIUS, noise_sizes, radius_of
from adam_minibatch_noise.expansion.constants import limit_c_total, rule_c_total
from adam_minibatch_noise.expansion.registry import LINEAR
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array, batch_variance_factor
from sim.losses.problems import Problem


@dataclass(frozen=True)
class NoiseSummary:
    """The batch noise of a problem; None: there is no such number.

    Attributes
    ----------
    noise_scale : float or None
        B_simple = tr(Sigma)/|g|^2, in samples.
    lam : float or None
        Noise-to-signal ratio of a batch gradient, v B_simple.
    rho : float or None
        Largest relative noise of a batch; None where a component of g is 0 and its noise is not.
    c_total_limit, c_total_exact : float or None
        C_total of the optimiser at `lam`, as n -> infinity and at the last step of the given epochs; None where it is
        not scale-invariant.
    inside_range : bool or None
        Whether the expansion has a bound on what it leaves out; None where nothing is expanded: SGD.
    rho_max : float
        The bound exists for smaller rho: `expansion.bounds.radius_of`.
    """

    noise_scale: float | None
    lam: float | None
    rho: float | None
    c_total_limit: float | None
    c_total_exact: float | None
    inside_range: bool | None
    rho_max: float = float(RADIUS)

    def entries(self) -> dict[str, Any]:
        """Return what goes into a JSON object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the lines below a table."""
        names = {"noise_scale": "B_simple", "lam": "lambda", "rho": "rho"}
        names |= {"c_total_limit": "C_total (limit)", "c_total_exact": "C_total (exact)"}
        values = {name: getattr(self, key) for key, name in names.items()}
        shown = ", ".join(
            f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in values.items()
        )
        return [shown] + ([range_notice(self.rho, self.rho_max)] if self.inside_range is False else [])


NO_BOUND_KNOWN = "no bound: none is known for the formula of this optimizer, the comparison decides nothing"


def range_notice(rho: float | None, rho_max: float = float(RADIUS)) -> str:
    """Say that the noise is outside the range of the expansion, rho < rho_max."""
    size = "by any multiple" if rho is None else f"by {rho:.3g}"
    return (
        f"no bound: a batch can deviate from the gradient {size} of it (rho), outside the range of the expansion, "
        f"rho < {rho_max:.3f}: how far its second order is from the truth is not known"
    )


def summarize_noise(
    problem: Problem,
    batch_size: int,
    rule: UpdateRule,
    n_epochs: int = 1,
    micro_batch_size: int | None = None,
) -> NoiseSummary:
    """Measure the batch noise of a problem, and C_total there.

    Parameters
    ----------
    problem : LeastSquares or Quadratics
    batch_size : int
        A divisor of the number of samples.
    rule : UpdateRule
    n_epochs : int
        Epochs, >= 1, at the last step of which `c_total_exact` is taken.
    micro_batch_size : int, optional
        Of a rule that averages over micro-batches.

    Returns
    -------
    NoiseSummary
    """
    noise_scale = gradient_noise_scale(problem.gradients)
    lam, lam_micro = (
        float(batch_variance_factor(problem.n_samples, size)) * noise_scale
        for size in (batch_size, micro_batch_size or batch_size)
    )
    if rule.formula == LINEAR:
        return NoiseSummary(_known(noise_scale), _known(lam), None, None, None, None)
    rho = largest_noise(problem.gradients, batch_size if micro_batch_size is None else micro_batch_size)
    limit = exact = np.nan
    if np.isfinite(lam) and rule.is_scale_invariant:  # not where the gradient is zero
        limit = float(limit_c_total(rule, lam, lam_micro))
        exact = float(rule_c_total(rule, lam, problem.n_samples // batch_size, n_epochs, lam_micro=lam_micro))
    rho_max = radius_of(rule, problem.gradients.mean(axis=0))
    numbers = (_known(noise_scale), _known(lam), _known(rho), _known(limit), _known(exact))
    return NoiseSummary(*numbers, bool(rho < rho_max), rho_max)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def gradient_noise_scale(gradients: Array) -> float:
    """Return B_simple = tr(Sigma)/|g|^2 of per-sample gradients (n_samples, n_params); not finite where g = 0."""
    unit = np.abs(gradients).max() or 1.0  # squares may be beyond float64
    scaled = gradients / unit
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        return float(scaled.var(axis=0).sum() / (scaled.mean(axis=0) ** 2).sum())


def largest_noise(gradients: Array, batch_size: int) -> float:
    """Return rho, the largest deviation of a batch gradient from g, relative to g, over components.

    Parameters
    ----------
    gradients : (n_samples, n_params) ndarray
        Of every sample.
    batch_size : int

    Returns
    -------
    float
        Infinite where a component of g is 0.
    """
    g = gradients.mean(axis=0)
    with np.errstate(all="ignore"):
        noise = np.where(g == 0, np.inf, (gradients - g) / np.abs(g))
        if not np.isfinite(noise).all():
            return float("inf")
        return float(noise_sizes(noise, batch_size)[2].max())
