"""Claims about Adam's constants C1..C5, each with an exact proof or a counter-example.

A claim is data (rates, ranges, bounds), and one `prove` decides true and false ones alike. This module holds
what all claims share, and the kinds that do not mention the noise lam: a sign, an identity, the supremum of
a ratio (Lemmas 3.7 and A.1 of [1]_). Those that do are in `analysis.proofs.monotonicity`.

References
----------
.. [1] M. D. Cattaneo, B. Shigida (2026). "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flint import arb, fmpq

from analysis.proofs.rational_forms import IDENTITY, RationalFunction, c1, c2, c4, c5
from analysis.proofs.sturm import (
    Enclosure,
    above_zero,
    below_zero,
    decimal_text,
    has_pole,
    infimum,
    isolate,
    root_ball,
    supremum,
)

CONSTANTS = {"C1": c1, "C2": c2, "C4": c4, "C5": c5}
ZERO, ONE = fmpq(0), fmpq(1)
Point = dict[str, fmpq]


@dataclass(frozen=True)
class Proof:
    """Outcome of a claim.

    Parameters
    ----------
    counter_example : dict from str to fmpq, optional
        An exact point where the claim fails; None: the claim is proved.
    enclosures : tuple of Enclosure
        The exact ends of the range in which the claim is true, or the number that it is about.
    """

    counter_example: Point | None
    enclosures: tuple[Enclosure, ...] = ()


@dataclass(frozen=True)
class Segment:
    """Pairs of decay rates of which one runs over [low, 1) and the other stays, or equals it.

    Parameters
    ----------
    variable : {"beta1", "beta2", "beta"}
        What runs; "beta": both rates, equal.
    low : fmpq
        Lower end, included; 0 < low < 1.
    fixed : fmpq, optional
        The other rate, in (0, 1); None for "beta".
    """

    variable: str
    low: fmpq
    fixed: fmpq | None = None

    def on(self, constant: Callable[[Any, Any], Any]) -> RationalFunction:
        """Restrict a function of (beta1, beta2) to the segment.

        Raises
        ------
        ValueError
            If it has a pole at a point of the segment.
        """
        x, fixed = IDENTITY, self.fixed
        beta1, beta2 = {"beta1": (x, fixed), "beta2": (fixed, x), "beta": (x, x)}[self.variable]
        function = RationalFunction.of(constant(beta1, beta2))
        if has_pole(function, self.low, ONE):
            raise ValueError(f"a function with a pole where {self}")
        return function

    def at(self, x: fmpq, **more: fmpq) -> Point:
        """Name the rates at `x`."""
        both = {"beta1": x, "beta2": x} if self.variable == "beta" else {self.variable: x}
        return {**both, **self.others(), **more}

    def others(self) -> Point:
        """Name the rate that stays, if there is one."""
        if self.fixed is None:
            return {}
        return {"beta2" if self.variable == "beta1" else "beta1": self.fixed}

    def __str__(self) -> str:
        low = decimal_text(self.low)
        if self.variable == "beta":
            return f"beta1 = beta2 in [{low}, 1)"
        ((other, value),) = self.others().items()
        return f"{other} = {decimal_text(value)}, {self.variable} in [{low}, 1)"


@dataclass(frozen=True)
class Claim(ABC):
    """What every claim carries.

    Parameters
    ----------
    lemma : str
        Number of the lemma it is, or belongs to.
    published : str
        The number printed there; "" for a claim of our own.
    segment : Segment
        Where it is made.
    """

    lemma: str
    published: str
    segment: Segment

    @abstractmethod
    def statement(self) -> str:
        """Return what is claimed, in words."""

    @abstractmethod
    def prove(self) -> Proof:
        """Decide the claim exactly; enclosures are at the working precision `flint.ctx.prec`."""


@dataclass(frozen=True)
class Positive(Claim):
    """A rational function of (beta1, beta2), called `name`, is > 0 at every point of the segment.

    With `order` = 1 its derivative along the segment is, so that the function increases strictly.
    """

    name: str
    function: Callable[[Any, Any], Any]
    order: int = 0

    def statement(self) -> str:
        """Return what is claimed, in words."""
        return f"{self.segment}: {self.name} " + ("strictly increasing" if self.order else "> 0")

    def prove(self) -> Proof:
        """Decide the claim; the enclosure is the last zero between 0 and 1, if there is one."""
        function, low = self.segment.on(self.function).derivative(self.order), self.segment.low
        turn: tuple[Enclosure, ...] = ()
        zeros = isolate(function.numerator, ZERO, ONE) if function.numerator else []
        if zeros:
            ball = root_ball(function.numerator, zeros[-1])
            turn = (Enclosure(ball, f"last zero below 1, at {self.segment.variable}"),)
        if above_zero(function, low, ONE):
            return Proof(None, turn)
        x = below_zero(function, low, ONE)
        if x is None and function(low) != 0:
            raise ValueError(f"{self.name} touches zero: neither > 0 nor < 0 at a rational point")
        return Proof(self.segment.at(low if x is None else x), turn)


@dataclass(frozen=True)
class Identity(Claim):
    """Two rational functions of (beta1, beta2) agree at every point of the segment."""

    name: str
    left: Callable[[Any, Any], Any]
    right: Callable[[Any, Any], Any]
    order: int = 0

    def statement(self) -> str:
        """Return what is claimed, in words."""
        return f"{self.segment}: {self.name}"

    def prove(self) -> Proof:
        """Decide the claim; the `left` function is differentiated `order` times along the segment first."""
        difference = self.segment.on(self.left).derivative(self.order) - self.segment.on(self.right)
        if not difference.numerator:
            return Proof(None)
        points = (self.segment.low + (ONE - self.segment.low) * fmpq(1, k) for k in range(2, 10**6))
        return Proof(self.segment.at(next(x for x in points if difference(x) != 0)))


@dataclass(frozen=True)
class RatioBelow(Claim):
    """The supremum of |numerator/denominator| over the segment, two of C1..C5, is less than `bound`.

    Where both vanish the ratio is the one of the reduced fraction, its continuous extension.
    """

    numerator: str
    denominator: str
    bound: fmpq

    def statement(self) -> str:
        """Return what is claimed, in words."""
        return f"{self.segment}: sup |{self.numerator}/{self.denominator}| < {decimal_text(self.bound)}"

    def prove(self) -> Proof:
        """Decide the claim; the enclosure is the supremum, infinite if the denominator vanishes."""
        segment, low = self.segment, self.segment.low
        ratio = segment.on(CONSTANTS[self.numerator]) / segment.on(CONSTANTS[self.denominator])
        margin = self.bound**2 - ratio * ratio
        if has_pole(ratio, low, ONE):
            largest = Enclosure(arb.pos_inf(), f"unbounded: {self.denominator} vanishes")
        else:
            ends = (supremum(ratio, low, ONE, segment.variable), -infimum(ratio, low, ONE, segment.variable))
            largest = max(ends, key=lambda end: end.ball.mid())
        x = below_zero(margin, low, ONE)
        if x is not None:
            return Proof(segment.at(x), (largest,))
        # Nowhere above the bound; strictly below it, the limit at 1 too, unless the supremum equals it.
        strict = above_zero(margin, low, ONE) and margin(ONE) > 0
        return Proof(None if strict else {"supremum": self.bound}, (largest,))
