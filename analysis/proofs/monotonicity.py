"""Claims about C_total as a function of one decay rate, for every noise level lam of a range.

C_total = FB + (C1 + C2) lam is affine in lam, and so are its derivatives A + lam B. Hence A + lam B > 0 for
every lam of an open range if it is >= 0 at both ends of the range and A has no zero: two sign conditions on
polynomials in one decay rate, decided by Sturm sequences. The lam at which the derivative changes sign is
-A/B: the exact thresholds are its supremum and infimum. Lemmas 3.4, 3.5 and 3.6 of [1]_.

References
----------
.. [1] M. D. Cattaneo, B. Shigida (2026). "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642.
"""

from dataclasses import dataclass
from typing import Any

from flint import arb, fmpq

from analysis.proofs.claims import ONE, Claim, Point, Proof, Segment
from analysis.proofs.rational_forms import IDENTITY, RationalFunction, forward_bias, noise_slope
from analysis.proofs.sturm import (
    Enclosure,
    above_zero,
    below_zero,
    decimal_text,
    infimum,
    keeps_sign,
    short_decimal,
    supremum,
)


@dataclass(frozen=True)
class LamRange:
    """Open range low < lam < high; `high` None: no upper end."""

    low: fmpq
    high: fmpq | None = None

    def __str__(self) -> str:
        if self.high is None:
            return f"lam > {decimal_text(self.low)}"
        return f"{decimal_text(self.low)} < lam < {decimal_text(self.high)}"

    def at_ends(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return a + lam b at the lower end and at the upper one; without one, b, which decides."""
        return a + b * self.low, (b if self.high is None else a + b * self.high)

    def where_negative(self, a: fmpq, b: fmpq) -> fmpq | None:
        """Return a lam of the range with a + lam b < 0; None if there is none."""
        if min(self.at_ends(a, b)) >= 0:
            return None
        low, high = self.low, self.high
        if b > 0:
            high = -a / b if high is None else min(high, -a / b)
        elif b < 0:
            low = max(low, -a / b)
        return short_decimal(low, low + 1 if high is None else high)


def _parts(segment: Segment, order: int) -> tuple[RationalFunction, RationalFunction]:
    """Return A and B: the derivative of C_total of this order along the segment is A + lam B."""
    return segment.on(forward_bias).derivative(order), segment.on(noise_slope).derivative(order)


def _not_positive(a: RationalFunction, b: RationalFunction, segment: Segment, lam: LamRange) -> Point | None:
    """Look for a point and a lam of the range with a + lam b < 0; None proves a + lam b > 0 for all.

    If a + lam b >= 0 at both ends of the range, it is > 0 between: else both ends would vanish at one point,
    and a with them.
    """
    if not keeps_sign(a, segment.low, ONE):
        raise ValueError(f"a proof needs a derivative of FB without zeros where {segment}")
    for end in lam.at_ends(a, b):
        x = below_zero(end, segment.low, ONE)
        if x is not None:
            negative = lam.where_negative(a(x), b(x))
            assert negative is not None  # one end of the range is
            return segment.at(x, lam=negative)
    return None


def _turning_range(a: RationalFunction, b: RationalFunction, segment: Segment) -> tuple[Enclosure, ...]:
    """Enclose the infimum and the supremum of -a/b; nothing if b has a zero."""
    if not keeps_sign(b, segment.low, ONE):
        return ()
    return tuple(bound(-a / b, segment.low, ONE, segment.variable) for bound in (infimum, supremum))


@dataclass(frozen=True)
class Monotone(Claim):
    """The derivative of C_total is > 0 (`direction` 1) or < 0 (-1) throughout, for every lam of a range."""

    direction: int
    lam: LamRange

    def statement(self) -> str:
        """Return what is claimed, in words."""
        word = "increasing" if self.direction > 0 else "decreasing"
        return f"{self.segment}: C_total strictly {word} for every {self.lam}"

    def prove(self) -> Proof:
        """Decide the claim; the enclosure is the end of the exact range of lam."""
        a, b = (part * self.direction for part in _parts(self.segment, 1))
        turning = _turning_range(a, b, self.segment)
        threshold = turning[1:] if b(self.segment.low) > 0 else turning[:1]
        return Proof(_not_positive(a, b, self.segment, self.lam), threshold)


@dataclass(frozen=True)
class Convex(Claim):
    """C_total is strictly convex on the segment, with its minimum inside, for every lam of a range.

    Proved as: second derivative > 0 throughout; first derivative < 0 at the lower end and, by the coefficient
    of its pole, > 0 towards 1.
    """

    lam: LamRange

    def statement(self) -> str:
        """Return what is claimed, in words."""
        return f"{self.segment}: C_total strictly convex, minimiser inside, for every {self.lam}"

    def prove(self) -> Proof:
        """Decide the claim; the enclosures are the two ends of the exact range of lam."""
        segment, low = self.segment, self.segment.low
        (a, b), curvature = _parts(segment, 1), _parts(segment, 2)
        # (1 - x)^2 times the derivative tends to the coefficient of its double pole at 1.
        pole_a, pole_b = ((part * (1 - IDENTITY) ** 2)(ONE) for part in (a, b))
        counter_example = _not_positive(*curvature, segment, self.lam)
        for x, start, slope in ((low, -a(low), -b(low)), (ONE, pole_a, pole_b)):
            lam = self.lam.where_negative(start, slope)
            if counter_example is None and lam is not None:
                counter_example = segment.at(x, lam=lam)
        # The upper end: slope 0 at the lower end of the segment. The lower end: curvature, which near 1 has
        # the sign of the pole's coefficient too.
        if not (b(low) > 0 and pole_b > 0 and pole_a != 0 and above_zero(curvature[1], low, ONE)):
            raise ValueError(
                f"a minimiser for a range of lam needs C1 + C2 convex and increasing where {segment}"
            )
        upper = -a(low) / b(low)
        place = f"slope 0 at {segment.variable} = {decimal_text(low)}"
        return Proof(
            counter_example, (_turning_range(*curvature, segment)[1], Enclosure(arb(upper), place, upper))
        )


@dataclass(frozen=True)
class NotMonotone(Claim):
    """C_total has both a rising and a falling point on the segment, for every lam of a range."""

    lam: LamRange

    def statement(self) -> str:
        """Return what is claimed, in words."""
        return f"{self.segment}: C_total neither increasing nor decreasing for every {self.lam}"

    def prove(self) -> Proof:
        """Decide the claim; the enclosures are the ends of the exact range of lam, inf and sup of -A/B."""
        turning = _turning_range(*_parts(self.segment, 1), self.segment)
        if not turning or self.lam.high is None:
            raise ValueError(f"two thresholds need a bounded range and C1 + C2 monotone where {self.segment}")
        lowest, highest = (threshold.bounds() for threshold in turning)
        low, high = self.lam.low, self.lam.high
        if lowest[1] <= low and high <= highest[0]:
            return Proof(None, turning)
        if lowest[1] <= low:
            low = max(low, highest[1])
        else:
            high = min(high, lowest[0])
        if low >= high:
            raise ArithmeticError("the working precision does not tell a threshold from the end of the range")
        # Below both thresholds, or above both, C_total is monotone on the whole segment.
        return Proof({**self.segment.others(), "lam": short_decimal(low, high)}, turning)


@dataclass(frozen=True)
class TurnsPositive(Claim):
    """At the lower end of the segment C_total is < 0 up to lam.low and > 0 from lam.high on."""

    lam: LamRange

    def statement(self) -> str:
        """Return what is claimed, in words."""
        pair = ", ".join(f"{name} = {decimal_text(value)}" for name, value in self._pair().items())
        low, high = map(decimal_text, self._ends())
        return f"{pair}: C_total < 0 for 0 <= lam <= {low} and > 0 for lam >= {high}"

    def prove(self) -> Proof:
        """Decide the claim; the enclosure is the lam at which C_total is 0."""
        pair = self._pair()
        start, slope = forward_bias(**pair), noise_slope(**pair)
        zero = -start / slope
        enclosure = (Enclosure(arb(zero), "C_total = 0", zero),)
        # Affine in lam: < 0 at 0 and at lam.low is < 0 between; < 0 at 0 and > 0 at lam.high is > 0 beyond.
        low, high = self._ends()
        for lam, sign in ((fmpq(0), -1), (low, -1), (high, 1)):
            if sign * (start + slope * lam) <= 0:
                return Proof({**pair, "lam": lam}, enclosure)
        return Proof(None, enclosure)

    def _ends(self) -> tuple[fmpq, fmpq]:
        assert self.lam.high is not None  # the claim is about two ends
        return self.lam.low, self.lam.high

    def _pair(self) -> Point:
        return dict(sorted(self.segment.at(self.segment.low).items()))
