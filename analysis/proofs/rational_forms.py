"""The five constants of Adam's averaged memory term as exact rational functions of (beta1, beta2).

Each constant is written once, from sums of the two weight sequences over lags a = 0, 1, 2, ... [1]_,

    mu_a = (1 - beta1) beta1^a,    nu_a = (1 - beta2) beta2^a,

and takes whatever the four operations take: `fractions.Fraction`, `flint.fmpq`, sympy symbols, or the
`RationalFunction` below, which makes it an exact function of one decay rate.

References
----------
.. [1] M. D. Cattaneo, B. Shigida (2026). "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642, Prop. 3.3 and Appendix A.2.
"""

from dataclasses import dataclass
from typing import Any, overload

from flint import arb, fmpq, fmpq_poly


@dataclass(frozen=True)
class RationalFunction:
    """Exact rational function p(x) / q(x) in lowest terms.

    Parameters
    ----------
    numerator, denominator : fmpq_poly
        Common factors are divided out and the denominator is made monic.

    Raises
    ------
    ZeroDivisionError
        If the denominator is the zero polynomial.
    """

    numerator: fmpq_poly
    denominator: fmpq_poly

    def __post_init__(self) -> None:
        if not self.denominator:
            raise ZeroDivisionError("a rational function needs a denominator that is not zero")
        factor = self.numerator.gcd(self.denominator)
        factor = factor * (self.denominator.leading_coefficient() / factor.leading_coefficient())
        object.__setattr__(self, "numerator", self.numerator // factor)
        object.__setattr__(self, "denominator", self.denominator // factor)

    @staticmethod
    def of(value: Any) -> "RationalFunction":
        """Make a constant function of a whole or rational number; a rational function stays as it is."""
        if isinstance(value, RationalFunction):
            return value
        return RationalFunction(fmpq_poly([value]), fmpq_poly([1]))

    def __add__(self, other: Any) -> "RationalFunction":
        other = self.of(other)
        return RationalFunction(
            self.numerator * other.denominator + other.numerator * self.denominator,
            self.denominator * other.denominator,
        )

    def __mul__(self, other: Any) -> "RationalFunction":
        other = self.of(other)
        return RationalFunction(self.numerator * other.numerator, self.denominator * other.denominator)

    def __truediv__(self, other: Any) -> "RationalFunction":
        other = self.of(other)
        return RationalFunction(self.numerator * other.denominator, self.denominator * other.numerator)

    def __rtruediv__(self, other: Any) -> "RationalFunction":
        return self.of(other) / self

    def __neg__(self) -> "RationalFunction":
        return RationalFunction(-self.numerator, self.denominator)

    def __sub__(self, other: Any) -> "RationalFunction":
        return self + -self.of(other)

    def __rsub__(self, other: Any) -> "RationalFunction":
        return self.of(other) + -self

    def __pow__(self, exponent: int) -> "RationalFunction":
        return RationalFunction(self.numerator**exponent, self.denominator**exponent)

    __radd__, __rmul__ = __add__, __mul__

    @overload
    def __call__(self, x: fmpq) -> fmpq: ...
    @overload
    def __call__(self, x: arb) -> arb: ...
    def __call__(self, x: fmpq | arb) -> fmpq | arb:
        """Evaluate exactly at a rational number, or enclose the values on a ball.

        Raises
        ------
        ZeroDivisionError
            If `x` is a rational pole.
        """
        return _horner(self.numerator, x) / _horner(self.denominator, x)

    def derivative(self, order: int = 1) -> "RationalFunction":
        """Differentiate `order` >= 0 times."""
        if order == 0:
            return self
        p, q = self.numerator, self.denominator
        return RationalFunction(p.derivative() * q - p * q.derivative(), q * q).derivative(order - 1)


IDENTITY = RationalFunction(fmpq_poly([0, 1]), fmpq_poly([1]))
"""The function x."""


def _horner(polynomial: fmpq_poly, x: fmpq | arb) -> fmpq | arb:
    value = x * 0
    for coefficient in reversed(polynomial.coeffs()):
        value = value * x + coefficient
    return value


def _sum(x: Any) -> Any:
    return 1 / (1 - x)  # sum_a x^a


def _lag_sum(x: Any) -> Any:
    return x / (1 - x) ** 2  # sum_a a x^a


def _products(beta1: Any, beta2: Any) -> tuple[Any, Any, Any]:
    """Sum mu_a^2, mu_a nu_a and nu_a^2 over the lags."""
    return (
        (1 - beta1) ** 2 * _sum(beta1 * beta1),
        (1 - beta1) * (1 - beta2) * _sum(beta1 * beta2),
        (1 - beta2) ** 2 * _sum(beta2 * beta2),
    )


def _lag_products(beta1: Any, beta2: Any) -> tuple[Any, Any]:
    """Sum a mu_a nu_a and a nu_a^2 over the lags."""
    return (
        (1 - beta1) * (1 - beta2) * _lag_sum(beta1 * beta2),
        (1 - beta2) ** 2 * _lag_sum(beta2 * beta2),
    )


def forward_bias(beta1: Any, beta2: Any) -> Any:
    """Return beta1/(1 - beta1) - beta2/(1 - beta2), the coefficient of the noiseless term FB."""
    return beta1 / (1 - beta1) - beta2 / (1 - beta2)


def c1(beta1: Any, beta2: Any) -> Any:
    """Return C1, the coefficient of kappa_j d_j |g|_1 (term MBN1 of Prop. 3.3).

    Parameters
    ----------
    beta1, beta2 : Fraction, fmpq, sympy expression or RationalFunction
        Decay rates in (0, 1).

    Returns
    -------
    same type
        beta1/(1-beta1) (-1/2 + 3/2 S2) - beta2/(1-beta2) (-3/2 + 15/2 S2 - 3 Smn)
        - sum a nu_a (mu_a - 3 nu_a), where S2 = sum nu_a^2, Smn = sum mu_a nu_a. Exact.
    """
    _, smn, s2 = _products(beta1, beta2)
    lag_mn, lag_nn = _lag_products(beta1, beta2)
    first = beta1 / (1 - beta1) * (3 * s2 - 1) / 2
    second = beta2 / (1 - beta2) * (15 * s2 - 6 * smn - 3) / 2
    return first - second - lag_mn + 3 * lag_nn


def c2(beta1: Any, beta2: Any) -> Any:
    """Return C2 = FB (-1/2 + 3/2 S2 - Smn), the coefficient of term MBN2 (arguments as in `c1`). Exact."""
    _, smn, s2 = _products(beta1, beta2)
    return forward_bias(beta1, beta2) * (3 * s2 - 2 * smn - 1) / 2


def c3(beta1: Any, beta2: Any) -> Any:
    """Return C3 = -2 sum a mu_a nu_a - beta2/(1-beta2) + 3 sum a nu_a^2 (term MBN3, as `c1`). Exact."""
    lag_mn, lag_nn = _lag_products(beta1, beta2)
    return 3 * lag_nn - 2 * lag_mn - beta2 / (1 - beta2)


def c4(beta1: Any, beta2: Any) -> Any:
    """Return C4 = sum (mu_a - nu_a)(beta2^a - beta1^a) (term MBN4, as `c1`). Exact."""
    mixed = _sum(beta1 * beta2)
    return (1 - beta1) * (mixed - _sum(beta1 * beta1)) - (1 - beta2) * (_sum(beta2 * beta2) - mixed)


def c5(beta1: Any, beta2: Any) -> Any:
    """Return C5, the coefficient of sum_i s_i H_ij v Sigma_ij / (g_i g_j) (term MBN5, as `c1`).

    With e_a = mu_a - nu_a, the noise of the step of lag c at component i meets that of the weights at
    component j. Summed over the lags a >= 1 that the two share this is

        sum_{a>=1} sum_c e_c ( 3 beta2^(2a) nu_c - beta2^a nu_c - (beta1 beta2)^a (nu_c + mu_c) ).

    Returns
    -------
    same type as the arguments
        Exact.
    """
    smm, smn, s2 = _products(beta1, beta2)
    e_mu, e_nu = smm - smn, smn - s2  # sum e_a mu_a, sum e_a nu_a

    def tail(x: Any) -> Any:
        return x / (1 - x)  # sum over a >= 1 of x^a

    return (3 * tail(beta2 * beta2) - tail(beta2)) * e_nu - tail(beta1 * beta2) * (e_nu + e_mu)


def noise_slope(beta1: Any, beta2: Any) -> Any:
    """Return C1 + C2, the slope of C_total in lam (arguments as in `c1`). Exact."""
    return c1(beta1, beta2) + c2(beta1, beta2)


def c_total(beta1: Any, beta2: Any, lam: Any) -> Any:
    """Return C_total = FB + (C1 + C2) lam (arguments as in `c1`, lam >= 0 the scaled noise). Exact."""
    return forward_bias(beta1, beta2) + noise_slope(beta1, beta2) * lam
