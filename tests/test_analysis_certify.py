"""Certificates: constants by other routes, the exact tools, each lemma, and a false variant of each."""

import csv
import json
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from flint import arb, ctx, fmpq, fmpq_poly

from adam_minibatch_noise import theory
from analysis import certify as program
from analysis.proofs import rational_forms as forms
from analysis.proofs import sturm
from analysis.proofs.claims import Identity, Positive, RatioBelow, Segment
from analysis.proofs.monotonicity import Convex, LamRange, Monotone, NotMonotone, TurnsPositive

B, R = sympy.symbols("b r")
THIRD = sympy.Rational(3, 2)
# The paper's closed forms, typed independently of the sums in rational_forms (Appendix A.2).
CLOSED = {
    "FB": B / (1 - B) - R / (1 - R),
    "C1": (1 - B**2) / (B * (1 - B * R))
    + (1 - B) ** 2 / (B * (1 - B * R) ** 2)
    + THIRD * (1 + B) / ((1 - B) * (1 + R))
    - 2 / (B * (1 - B))
    - 2
    + THIRD / (1 - R)
    + 3 / (1 + R) ** 2,
    "C2": (B - R) * (B * R**2 - B * R + B + R**2 - 2 * R) / ((1 - B) * (1 - R) * (1 + R) * (1 - B * R)),
    "C4": -((B - R) ** 2) / ((1 + B) * (1 + R) * (1 - B * R)),
    "C5": R * (R - B) * (2 * R - 3 * B - 1) / ((1 + B) * (1 + R) ** 2 * (1 - B * R)),
}
CODE = {"FB": forms.forward_bias, "C1": forms.c1, "C2": forms.c2, "C4": forms.c4, "C5": forms.c5}


def q(decimal):
    return fmpq(*Fraction(decimal).as_integer_ratio())


def lam(low, high=None):
    return LamRange(q(low), None if high is None else q(high))


B090 = Segment("beta2", q("0.9"), q("0.9"))
B099 = Segment("beta2", q("0.9"), q("0.99"))
R999 = Segment("beta1", q("0.9"), q("0.999"))


# --- the constants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODE)
def test_constants_equal_closed_forms(name):
    assert sympy.cancel(CODE[name](B, R) - CLOSED[name]) == 0


def test_constants_match_brute_force_sums():
    b, r = Fraction(1, 2), Fraction(2, 3)
    lags = range(80)  # (2/3)^80 = 8e-15
    mu, nu = [(1 - b) * b**a for a in lags], [(1 - r) * r**a for a in lags]
    s2 = sum(n * n for n in nu)
    smn = sum(m * n for m, n in zip(mu, nu, strict=True))
    fb = b / (1 - b) - r / (1 - r)
    c5 = Fraction(0)
    for (
        k
    ) in lags:  # lag of the weight mu_k or nu_k; step lags c = 1..k; noise lag p, in the step where p >= c
        for p in lags[:45]:
            weight = -mu[k] * nu[p] - nu[k] * ((p == k) + mu[p] - 3 * nu[p])
            c5 += weight * sum(mu[p - c] - nu[p - c] for c in range(1, min(k, p) + 1))
    expected = {
        "C1": b / (1 - b) * (-Fraction(1, 2) + Fraction(3, 2) * s2)
        - r / (1 - r) * (-Fraction(3, 2) + Fraction(15, 2) * s2 - 3 * smn)
        - sum(a * nu[a] * (mu[a] - 3 * nu[a]) for a in lags),
        "C2": fb * (-Fraction(1, 2) + Fraction(3, 2) * s2 - smn),
        "C4": sum((mu[a] - nu[a]) * (r**a - b**a) for a in lags),
        "C5": c5,
    }
    for name, value in expected.items():
        assert CODE[name](b, r) == pytest.approx(value, rel=1e-11), name
    c3 = -2 * sum(a * mu[a] * nu[a] for a in lags) - r / (1 - r) + 3 * sum(a * nu[a] ** 2 for a in lags)
    assert forms.c3(b, r) == pytest.approx(c3, rel=1e-11)


def test_constants_match_sim_theory():
    rng = np.random.default_rng(3)
    for beta1, beta2 in rng.uniform(0.05, 0.99, (20, 2)):
        rates = (Fraction(beta1), Fraction(beta2))
        for name in ("c1", "c2", "c3", "c4", "c5"):
            expected = float(getattr(forms, name)(*rates))
            assert getattr(theory, name)(beta1, beta2) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        expected = float(forms.c_total(*rates, Fraction(3, 4)))
        assert theory.c_total(beta1, beta2, 0.75) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_rational_function_is_a_field_with_a_derivative():
    x = forms.IDENTITY
    f = (x * x - 1) / (x - 1)
    assert f == x + 1  # lowest terms
    assert (1 / x).derivative(2) == 2 / x**3
    assert (2 - x)(fmpq(1, 3)) == fmpq(5, 3)
    with pytest.raises(ZeroDivisionError, match="denominator"):
        x / (x - x)


# --- the exact tools ------------------------------------------------------------------------------------


def test_isolate_matches_sympy():
    x = sympy.symbols("x")
    rng = np.random.default_rng(1)
    for _ in range(30):
        # Rational roots, some double, some at the ends of the interval, times a factor with irrational ones.
        roots = [sympy.Rational(int(n), 4) for n in rng.integers(-4, 5, 4)]
        polynomial = sympy.Poly(
            sympy.prod(x - r for r in roots) * (x**3 - 2 * x + int(rng.integers(-1, 2))), x
        )
        exact = fmpq_poly([fmpq(int(c.p), int(c.q)) for c in reversed(polynomial.all_coeffs())])
        expected = sorted({float(r) for r in sympy.real_roots(polynomial) if -1 < r < 1})
        found = sturm.isolate(exact, fmpq(-1), fmpq(1))
        assert len(found) == len(expected)
        for interval, root in zip(found, expected, strict=True):
            low, high = sturm.refine(exact, interval, fmpq(1, 10**9))
            assert low < high
            assert float(low) - 1e-15 <= root <= float(high) + 1e-15
            assert exact(low) != 0
            assert exact(high) != 0


def test_isolate_rejects_the_zero_polynomial():
    with pytest.raises(ValueError, match="zero polynomial"):
        sturm.isolate(fmpq_poly([]), fmpq(0), fmpq(1))


def test_signs_on_a_half_open_interval():
    x, zero, one = forms.IDENTITY, fmpq(0), fmpq(1)
    narrow = (x - fmpq(1, 3)) * (x - fmpq(1, 3) - fmpq(1, 10**9))
    found = sturm.below_zero(narrow, zero, one)  # negative on an interval of width 1e-9 only
    assert narrow(found) < 0
    square = (x * x * 2 - 1) ** 2
    assert sturm.below_zero(square, zero, one) is None
    assert not sturm.above_zero(square, zero, one)  # touches zero at 1/sqrt(2)
    assert sturm.above_zero(1 - x, zero, one)  # the zero at the open end does not count
    assert not sturm.above_zero(x, zero, one)  # the one at the closed end does
    assert not sturm.above_zero(1 / (x - fmpq(1, 2)) ** 2, zero, one)  # a pole
    assert sturm.has_pole(1 / (2 * x - 1), zero, one)
    assert sturm.has_pole(1 / x, zero, one)
    assert not sturm.keeps_sign(x, zero, one)
    assert sturm.keeps_sign(-1 - x, zero, one)
    assert sturm.below_zero(x - x, zero, one) is None


def test_supremum_known_values():
    x, zero, one = forms.IDENTITY, fmpq(0), fmpq(1)
    inside = sturm.supremum(x * (1 - x), zero, one, "x")
    assert inside.ball.contains(arb(0.25))
    assert "attained at x ~ 0.5" in inside.place
    limit = sturm.supremum(x, zero, one, "x")
    assert limit.exact == 1
    assert limit.place == "limit as x -> 1"
    assert sturm.infimum(x, zero, one, "x").exact == 0
    assert not sturm.supremum(1 / (1 - x), zero, one, "x").ball.is_finite()
    assert sturm.supremum(-1 / (1 - x), zero, one, "x").exact == -1
    # Two equal maxima, symmetrical about 1/2: neither is first, and the ball still holds the value.
    double = -((x - fmpq(1, 4)) ** 2) * (x - fmpq(3, 4)) ** 2 + 7
    assert sturm.supremum(double, zero, one, "x").ball.contains(arb(7))
    # Too close to tell at 20 bits: the value at 0 is 9s/16 below the maximum 1/4 inside.
    for k in range(1, 200):
        near = fmpq(1, 4) - (x - fmpq(3, 4)) ** 2 * (x + fmpq(k, 10**8))
        with ctx.workprec(20):
            assert sturm.supremum(near, zero, one, "x").ball.contains(arb(0.25))
    with pytest.raises(ValueError, match="poles"):
        sturm.supremum(1 / (2 * x - 1), zero, one, "x")


def test_short_and_plain_decimals():
    assert sturm.short_decimal(fmpq(1, 3), fmpq(1, 2)) == fmpq(2, 5)
    assert sturm.short_decimal(fmpq(-1), fmpq(1)) == 0
    with pytest.raises(ValueError, match="no number"):
        sturm.short_decimal(fmpq(1), fmpq(1))
    assert [sturm.decimal_text(fmpq(n, d)) for n, d in ((9, 10), (3, 1), (-1, 8), (1, 3))] == [
        "0.9", "3", "-0.125", "1/3",
    ]  # fmt: skip


# --- the published claims -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates():
    return [program.certify(claim) for claim in program.paper_claims()]


def test_all_claims_are_proved(certificates):
    assert [c.statement for c in certificates if c.verdict != "proved"] == []
    lemmas = [c.lemma for c in certificates if c.published]
    assert [lemmas.count(name) for name in ("3.4", "3.5", "3.6", "3.7", "A.1")] == [2, 3, 2, 1, 6]


def _turning_lam(order, rates, variable):
    a, b = (sympy.diff(part, variable, order) for part in (CLOSED["FB"], CLOSED["C1"] + CLOSED["C2"]))
    return sympy.lambdify(variable, (-a / b).subs(rates), "mpmath")


def _ratio(name, rates, variable):
    top, bottom = name.split("/")
    return sympy.lambdify(variable, sympy.cancel((CLOSED[top] / CLOSED[bottom]).subs(rates)), "mpmath")


B1_090, B1_099, B2_999 = ({s: sympy.Rational(v)} for s, v in ((B, "0.9"), (B, "0.99"), (R, "0.999")))
# Row, place of the extremum to 12 digits (None: the row's function is not stationary there), function there.
NUMERICAL = [
    (0, 0.9, _turning_lam(1, B1_090, R)),
    (1, 0.950662026703, _turning_lam(1, B1_090, R)),
    (4, 0.9, _turning_lam(1, B1_099, R)),
    (6, 0.995055441686, _turning_lam(1, B1_099, R)),
    (9, 0.9, _turning_lam(1, B2_999, B)),
    (14, 0.967351040827, _ratio("C4/C1", B1_090, R)),
    (15, 0.948491579392, _ratio("C5/C1", B1_090, R)),
    (16, 0.9, _ratio("C4/C2", B1_099, R)),
    (17, 0.9, _ratio("C5/C2", B1_099, R)),
    (18, 0.9, _ratio("C4/C2", B2_999, B)),
    (19, 0.969822320283, _ratio("C5/C2", B2_999, B)),
]


@pytest.mark.parametrize(("row", "start", "function"), NUMERICAL)
def test_enclosures_contain_mpmath_extrema(certificates, row, start, function):
    with mpmath.workdps(60):
        x = mpmath.mpf("0.9") if start == 0.9 else mpmath.findroot(lambda t: mpmath.diff(function, t), start)
        value = abs(function(x))
        # It is the extremum of the whole interval: no point of a grid, dense towards 1, lies beyond.
        grid = [1 - mpmath.mpf(10) ** (-1 - mpmath.mpf(k) / 20) for k in range(100)]
        others = [abs(function(t)) for t in grid]
        beyond = max(others) - value if row not in (1, 6, 9) else value - min(others)
        assert beyond <= mpmath.mpf(10) ** -50
        with ctx.workprec(250):
            # 20 digits of a numerical derivative's root give 40 of the value at an extremum.
            ball = arb(certificates[row].enclosure)
            assert ball.contains(arb(mpmath.nstr(value, 45)))
            assert ball.rad() < arb(10) ** -29 * ball.mid()


def test_enclosures_known_in_closed_form(certificates):
    assert certificates[8].exact == "1999/1996"  # 1.001503..., the limit of beta1 -> 1
    assert certificates[3].exact.split("; ")[0] == certificates[5].exact.split("; ")[0] == "1/2"
    root = sympy.CRootOf(sympy.Poly(B**3 - B**2 + 5 * B - 1, B), 0)
    with ctx.workprec(250):
        assert arb(certificates[11].enclosure).contains(arb(str(sympy.N(root, 45))))


def test_enclosures_do_not_depend_on_digits(certificates):
    claims = program.paper_claims()
    for digits in (3, 60):
        for before, claim in zip(certificates[:8], claims[:8], strict=True):
            after = program.certify(claim, digits)
            assert (after.verdict, after.exact, after.place) == (before.verdict, before.exact, before.place)
            with ctx.workprec(300):
                pairs = zip(before.enclosure.split("; "), after.enclosure.split("; "), strict=True)
                assert all(arb(one).overlaps(arb(two)) for one, two in pairs)
                assert all(arb(two).rad() <= arb(10) ** (1 - digits) * 3 for _, two in pairs)


def test_precision_rises_until_the_digits_are_certified():
    root = fmpq(1, 3 * 10**60)  # isolated to an absolute width: 200 bits fewer of relative accuracy
    claim = Positive("", "", Segment("beta", q("0.5")), "beta - root", lambda b, _: b - root)
    with ctx.workprec(400):
        ball = arb(program.certify(claim).enclosure)
        assert ball.contains(arb(root))
        assert ball.rad() < arb(10) ** -29 * ball.mid()


# --- false variants: refuted, and the counter-example checked by exact arithmetic on the closed forms ---


def _exact(point):
    return {name: sympy.Rational(int(value.p), int(value.q)) for name, value in point.items()}


def _total(point):
    return CLOSED["FB"] + (CLOSED["C1"] + CLOSED["C2"]) * point["lam"]


def _value(expression, point):
    return sympy.nsimplify(expression.subs({B: point["beta1"], R: point["beta2"]}))


def _inside(claim, point):
    x = point[claim.segment.variable]
    assert claim.segment.low <= fmpq(int(x.p), int(x.q)) < 1
    lam_range = getattr(claim, "lam", None)
    if lam_range is not None:
        value = fmpq(int(point["lam"].p), int(point["lam"].q))
        assert lam_range.low < value
        assert lam_range.high is None or value < lam_range.high


FALSE_MONOTONE = [
    Monotone("3.4", "", B090, 1, lam("0.5080")),
    Monotone("3.4", "", B090, -1, lam("0", "0.4946")),
    Monotone("3.4", "", B090, -1, lam("0.494")),
    Monotone("3.4", "", Segment("beta2", q("0.89"), q("0.9")), 1, lam("0.5082")),
    Monotone("3.5", "", B099, 1, lam("2.684")),
    Monotone("3.5", "", B099, -1, lam("0", "0.4995")),
    Monotone("3.6", "", R999, -1, lam("1.0015")),
    Monotone("3.6", "", R999, 1, lam("0", "0.9957")),
    Monotone("3.6", "", Segment("beta1", q("0.9"), q("0.99")), -1, lam("1.002")),
]


@pytest.mark.parametrize("claim", FALSE_MONOTONE, ids=Monotone.statement)
def test_false_monotone_is_refuted(claim):
    assert program.certify(claim).verdict == "refuted"
    point = _exact(claim.prove().counter_example)
    _inside(claim, point)
    # By differences: the move of C_total over a short step goes the other way.
    name = claim.segment.variable
    step = sympy.Rational(1, 10**12)
    there = _value(_total(point), {**point, name: point[name] + step})
    assert (there - _value(_total(point), point)) * claim.direction < 0


FALSE_CONVEX = [
    (Convex("3.5", "", B099, lam("0.49", "2.684")), "curvature"),
    (Convex("3.5", "", B099, lam("0.5", "2.685")), "no minimiser"),
    (Convex("3.4", "", B090, lam("0.499", "0.5081")), "curvature"),
    (Convex("3.4", "", B090, lam("0.5", "0.5083")), "no minimiser"),
    (Convex("3.4", "", B090, lam("0.5")), "no minimiser"),
]


@pytest.mark.parametrize(("claim", "reason"), FALSE_CONVEX, ids=lambda value: getattr(value, "lam", value))
def test_false_convex_is_refuted(claim, reason):
    assert program.certify(claim).verdict == "refuted"
    point = _exact(claim.prove().counter_example)
    _inside(claim, point)
    order = 2 if reason == "curvature" else 1
    derivative = _value(sympy.diff(_total(point), R, order), point)
    assert derivative < 0 if order == 2 else derivative > 0  # rising from the lower end on
    assert order == 2 or point["beta2"] == sympy.Rational("0.9")


@pytest.mark.parametrize(
    ("claim", "sign"),
    [
        (NotMonotone("3.4", "", B090, lam("0.4944", "0.5081")), -1),
        (NotMonotone("3.4", "", B090, lam("0.4946", "0.5082")), 1),
        (NotMonotone("3.5", "", B099, lam("0.4995", "2.685")), 1),
        (NotMonotone("3.6", "", R999, lam("0.995", "1.001")), 1),
        (NotMonotone("3.6", "", R999, lam("0.996", "1.002")), -1),
    ],
    ids=lambda value: getattr(value, "lam", value),
)
def test_false_gap_is_refuted(claim, sign):
    assert program.certify(claim).verdict == "refuted"
    point = _exact(claim.prove().counter_example)
    variable = {"beta1": B, "beta2": R}[claim.segment.variable]
    rates = {B: point["beta1"]} if variable == R else {R: point["beta2"]}
    top, bottom = sympy.fraction(sympy.together(sympy.diff(_total(point).subs(rates), variable)))
    # At that lam the derivative has no zero on [0.9, 1) by sympy's own count of roots, and the sign given.
    end = 1 - sympy.Rational(1, 10**12)  # 1 itself is a pole
    low = sympy.Rational("0.9")
    assert sympy.Poly(sympy.expand(top), variable).count_roots(low, end) == 0
    assert sympy.sign((top / bottom).subs(variable, low)) == sign


@pytest.mark.parametrize(
    "claim",
    [
        RatioBelow("A.1", "", B090, "C4", "C1", q("0.0002387")),
        RatioBelow("A.1", "", B090, "C5", "C1", q("0.0035259")),
        RatioBelow("A.1", "", B099, "C4", "C2", q("0.0005075")),
        RatioBelow("A.1", "", B099, "C5", "C2", q("0.0057971")),
        RatioBelow("A.1", "", R999, "C4", "C2", q("0.0000516")),
        RatioBelow("A.1", "", R999, "C5", "C2", q("0.00046987")),
        RatioBelow("A.1", "", B099, "C4", "C1", q("0.001")),  # C1 changes sign at beta2 = 0.9707
    ],
    ids=RatioBelow.statement,
)
def test_false_supremum_is_refuted(claim):
    assert program.certify(claim).verdict == "refuted"
    point = _exact(claim.prove().counter_example)
    _inside(claim, point)
    top, bottom = (_value(CLOSED[name], point) for name in (claim.numerator, claim.denominator))
    assert abs(top) > sympy.Rational(int(claim.bound.p), int(claim.bound.q)) * abs(bottom)


def test_supremum_equal_to_the_bound_is_not_below_it():
    assert program.certify(RatioBelow("A.1", "", B099, "C4", "C2", fmpq(10, 19701))).counter_example == (
        "supremum = 10/19701"
    )
    assert program.certify(RatioBelow("A.1", "", B099, "C4", "C1", q("0.001"))).enclosure == "inf"


def test_false_lemma_3_7_is_refuted():
    claim = Positive("3.7", "", Segment("beta", q("0.1")), "C1", forms.c1, 1)
    certificate = program.certify(claim)
    assert certificate.verdict == "refuted"
    assert certificate.counter_example == "beta1 = 0.1, beta2 = 0.1"
    here, there = (
        _value(CLOSED["C1"], {"beta1": x, "beta2": x})
        for x in (sympy.Rational(1, 10), sympy.Rational(11, 100))
    )
    assert there < here
    # From the root 0.20678... on it is true, from just below it is not.
    assert (
        program.certify(Positive("3.7", "", Segment("beta", q("0.2068")), "C1", forms.c1, 1)).verdict
        == "proved"
    )
    assert (
        program.certify(Positive("3.7", "", Segment("beta", q("0.2067")), "C1", forms.c1, 1)).verdict
        == "refuted"
    )


def test_false_signs_and_identities_are_refuted():
    sign = program.certify(Positive("signs", "", B099, "C1", forms.c1))
    assert sign.counter_example == "beta2 = 0.9, beta1 = 0.99"
    assert _value(CLOSED["C1"], {"beta1": sympy.Rational("0.99"), "beta2": sympy.Rational("0.9")}) < 0
    equal = Segment("beta", q("0.5"))
    identity = Identity(
        "3.7", "", equal, "C_total(lam = 2) = C1", lambda b, r: forms.c_total(b, r, 2), forms.c1
    )
    point = _exact(identity.prove().counter_example)
    assert _value(_total({"lam": 2}) - CLOSED["C1"], point) != 0
    turns = TurnsPositive("signs", "", Segment("beta2", q("0.999"), q("0.9")), lam("0.498", "0.5"))
    point = _exact(turns.prove().counter_example)
    assert _value(_total(point), point) > 0
    assert point["lam"] == sympy.Rational("0.498")


def test_claims_outside_the_method_are_rejected():
    with pytest.raises(ValueError, match="touches zero"):
        Positive(
            "", "", Segment("beta2", q("0.8"), q("0.9")), "C2^2", lambda b, r: forms.c2(b, r) ** 2
        ).prove()
    with pytest.raises(ValueError, match="a pole"):
        Segment("beta2", q("0.5"), q("0.9")).on(lambda b, r: 1 / (r - b))
    with pytest.raises(ValueError, match="two thresholds"):
        NotMonotone("", "", B090, lam("0.5")).prove()


# --- the command line -----------------------------------------------------------------------------------


def test_csv_same_bytes_every_run(tmp_path):
    files = [tmp_path / "new" / name for name in ("one.csv", "two.csv")]
    for file in files:
        assert program.main(["--format", "csv", "--out", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == program.COLUMNS
    assert len(rows) == len(program.paper_claims())
    assert rows[0]["enclosure"].startswith("[0.508187004519522856931169889")


def test_json_and_table_carry_the_seconds(capsys):
    assert program.main(["--format", "json", "--digits", "12"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["all_proved"] is True
    assert all(0 <= row["seconds"] < math.inf for row in record["claims"])
    assert program.main([]) == 0
    table = capsys.readouterr().out
    assert "seconds" in table.splitlines()[0]
    assert table.count("proved") == len(program.paper_claims())


def test_a_refuted_claim_ends_with_status_1(monkeypatch, capsys):
    claims = [*program.paper_claims()[:2], FALSE_MONOTONE[0]]
    monkeypatch.setattr(program, "paper_claims", lambda: claims)
    assert program.main([]) == 1
    out = capsys.readouterr().out
    assert "refuted: beta1 = 0.9" in out
    assert "lam = 0.5081" in out


@pytest.mark.parametrize(
    "argv", [["--digits", "0"], ["--digits", "1001"], ["--format", "xml"], ["--digit", "3"]]
)
def test_bad_usage_is_one_line_and_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(argv)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
