"""Exact signs, roots and extrema of rational functions on an interval.

Signs and counts of roots come from Sturm sequences in rational arithmetic, so that they hold at every point
of the interval; values at algebraic points are enclosed by Arb balls. Nothing here rounds to nearest.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from flint import arb, ctx, fmpq, fmpq_poly

from analysis.proofs.rational_forms import RationalFunction

Interval = tuple[fmpq, fmpq]


@dataclass(frozen=True)
class Enclosure:
    """A real number known to lie in a ball.

    Parameters
    ----------
    ball : arb
        Contains the number; infinite where a function has no bound.
    place : str
        Where the number comes from, in words.
    exact : fmpq, optional
        The number itself where it is rational and known.
    """

    ball: arb
    place: str
    exact: fmpq | None = None

    def __neg__(self) -> "Enclosure":
        return Enclosure(-self.ball, self.place, None if self.exact is None else -self.exact)

    def bounds(self) -> Interval:
        """Return rational numbers below and above, equal where the number is rational and known."""
        if self.exact is not None:
            return self.exact, self.exact
        return self.ball.lower().fmpq(), self.ball.upper().fmpq()


def decimal_text(value: fmpq) -> str:
    """Write a rational number exactly: as a decimal fraction if 40 places are enough for it, else as p/q."""
    for digits in range(40):
        scaled = value * 10**digits
        if scaled.q == 1:
            whole, part = divmod(abs(int(scaled.p)), 10**digits)
            return f"{'-' * (value < 0)}{whole}" + (f".{part:0{digits}d}" if digits else "")
    return str(value)


def short_decimal(low: fmpq, high: fmpq) -> fmpq:
    """Return the decimal fraction of fewest digits with low < decimal < high; ValueError unless low < high."""
    if not low < high:
        raise ValueError(f"no number between {low} and {high}")
    scale = 1
    while True:
        candidate = fmpq(int((low * scale).floor()) + 1, scale)
        if candidate < high:
            return candidate
        scale *= 10


def isolate(polynomial: fmpq_poly, low: fmpq, high: fmpq) -> list[Interval]:
    """Separate the roots in the open interval (low, high).

    Parameters
    ----------
    polynomial : fmpq_poly
        Not zero; multiple roots count once, roots at `low` and `high` do not.
    low, high : fmpq
        low < high.

    Returns
    -------
    list of pairs of fmpq
        Open intervals in rising order that share no more than end points, each with one root inside,
        each inside (low, high), with ends that are no roots. Exact (Sturm's theorem).
    """
    part = _simple_part(polynomial, low, high)
    chain = _sturm_chain(part)

    def split(left: fmpq, right: fmpq) -> Iterator[Interval]:
        n_roots = _sign_changes(chain, left) - _sign_changes(chain, right)
        if n_roots == 1 and low < left and right < high:
            yield left, right
        elif n_roots:
            middle = _cut(part, left, right)
            yield from split(left, middle)
            yield from split(middle, right)

    return list(split(low, high))


def refine(polynomial: fmpq_poly, interval: Interval, width: fmpq) -> Interval:
    """Narrow an interval of `isolate` to at most `width` by bisection on the sign of `polynomial`."""
    left, right = interval
    part = _simple_part(polynomial, left, right)
    while right - left > width:
        middle = _cut(part, left, right)
        left, right = (left, middle) if part(left) * part(middle) < 0 else (middle, right)
    return left, right


def _simple_part(polynomial: fmpq_poly, low: fmpq, high: fmpq) -> fmpq_poly:
    """Keep each root once and none at the two ends."""
    if not polynomial:
        raise ValueError("the zero polynomial has no isolated roots")
    part = polynomial // polynomial.gcd(polynomial.derivative())
    for end in (low, high):
        if part(end) == 0:
            part = part // fmpq_poly([-end, 1])
    return part


def _sturm_chain(polynomial: fmpq_poly) -> list[fmpq_poly]:
    chain = [polynomial, polynomial.derivative()]
    while chain[-1]:
        chain.append(-(chain[-2] % chain[-1]))
    return chain[:-1]


def _sign_changes(chain: list[fmpq_poly], x: fmpq) -> int:
    signs = [value > 0 for value in (member(x) for member in chain) if value != 0]
    return sum(a != b for a, b in itertools.pairwise(signs))


def _cut(part: fmpq_poly, left: fmpq, right: fmpq) -> fmpq:
    """Return a point near the middle that is no root: of deg + 1 distinct points one is not."""
    pieces = 2 * part.degree() + 2
    for shift in range(part.degree() + 1):
        point = left + (right - left) * fmpq(part.degree() + 1 - shift, pieces)
        if part(point) != 0:
            return point
    raise AssertionError("a polynomial has no more roots than its degree")


def below_zero(function: RationalFunction, low: fmpq, high: fmpq) -> fmpq | None:
    """Look for a point of [low, high) where a rational function is negative.

    Parameters
    ----------
    function : RationalFunction
        Without a pole at `low`.
    low, high : fmpq
        low < high.

    Returns
    -------
    fmpq or None
        A point with function(point) < 0; None if there is none: then function >= 0 on all of [low, high)
        but for its poles. Exact: between neighbouring roots and poles the sign is that of one sample.
    """
    product = function.numerator * function.denominator  # same sign as the function
    if not product:
        return None
    cuts = [refine(product, interval, (high - low) / 2**20) for interval in isolate(product, low, high)]
    lefts = [low, *(right for _, right in cuts)]
    rights = [*(left for left, _ in cuts), high]
    for i, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        sample = left if left == right else short_decimal(left, right)
        if product(sample) < 0:
            # The closed end itself where it will do: it is the point a reader would try first.
            return low if i == 0 and product(low) < 0 else sample
    return None


def keeps_sign(function: RationalFunction, low: fmpq, high: fmpq) -> bool:
    """Whether a rational function has neither a zero nor a pole on [low, high). Exact."""
    product = function.numerator * function.denominator
    return bool(product) and product(low) != 0 and not isolate(product, low, high)


def has_pole(function: RationalFunction, low: fmpq, high: fmpq) -> bool:
    """Whether a rational function has a pole on [low, high). Exact."""
    return function.denominator(low) == 0 or bool(isolate(function.denominator, low, high))


def above_zero(function: RationalFunction, low: fmpq, high: fmpq) -> bool:
    """Whether a rational function has no pole on [low, high) and is > 0 at every point of it. Exact."""
    return keeps_sign(function, low, high) and function(low) > 0


def root_ball(polynomial: fmpq_poly, interval: Interval) -> arb:
    """Enclose the root of an interval of `isolate` in a ball no wider than the working precision needs."""
    left, right = refine(polynomial, interval, fmpq(1, 2**ctx.prec))
    return arb(left).union(arb(right))


def supremum(function: RationalFunction, low: fmpq, high: fmpq, variable: str) -> Enclosure:
    """Enclose the supremum of a rational function over [low, high).

    The candidates are the value at `low`, the limit at `high` and the values at the zeros of the derivative
    between, isolated exactly and evaluated in ball arithmetic at the working precision (`flint.ctx.prec`).

    Parameters
    ----------
    function : RationalFunction
        Without a pole on [low, high).
    low, high : fmpq
        low < high.
    variable : str
        Name of the argument, for `Enclosure.place`.

    Returns
    -------
    Enclosure
        Its ball is infinite if the function grows without bound towards `high`.

    Raises
    ------
    ValueError
        If there is a pole on [low, high).
    """
    if has_pole(function, low, high):
        raise ValueError("a supremum needs a function without poles")
    first = Enclosure(arb(function(low)), f"attained at {variable} = {decimal_text(low)}", function(low))
    candidates = [first, _limit(function, low, high, variable)]
    slope = function.derivative().numerator
    for interval in isolate(slope, low, high) if slope else []:
        x = root_ball(slope, interval)
        candidates.append(Enclosure(function(x), f"attained at {variable} ~ {x.str(12, radius=False)}"))
    best = max(candidates, key=lambda candidate: candidate.ball.mid())
    for rival in candidates:
        if not rival.ball < best.ball and rival.exact != best.exact:  # too close to tell: cover both
            best = Enclosure(best.ball.max(rival.ball), best.place)
    return best


def infimum(function: RationalFunction, low: fmpq, high: fmpq, variable: str) -> Enclosure:
    """Enclose the infimum of a rational function over [low, high), see `supremum`."""
    return -supremum(-function, low, high, variable)


def _limit(function: RationalFunction, low: fmpq, high: fmpq, variable: str) -> Enclosure:
    place = f"limit as {variable} -> {decimal_text(high)}"
    if function.denominator(high) != 0:
        value = function(high)
        return Enclosure(arb(value), place, value)
    # Next to the pole, right of every root and pole between, the sign is that of the infinity.
    product = function.numerator * function.denominator
    last = max([low, *(right for _, right in isolate(product, low, high))])
    return Enclosure(arb.pos_inf() if product((last + high) / 2) > 0 else arb.neg_inf(), place)
