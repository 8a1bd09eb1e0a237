"""Certificates for Lemmas A.1, 3.4, 3.5, 3.6 and 3.7 of Cattaneo & Shigida (2026): rigorous, for all values.

    python -m analysis.certify --format table

prints, for each claim, whether it is proved or refuted, an exact counter-example if refuted, and a ball of at
least `--digits` digits that contains the true threshold. Exit status 0: all proved; 1: one refuted.
Rows without a published number are our own additions.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import Parser, run
from common.files import atomic_write, to_json, to_table
from common.settings import Number

if TYPE_CHECKING:
    from analysis.proofs.claims import Claim

COLUMNS = ["lemma", "statement", "verdict", "published", "enclosure", "exact", "place", "counter_example"]


@dataclass(frozen=True)
class Certificate:
    """One row of the table; every field but `seconds` is the same in every run.

    Parameters
    ----------
    lemma, statement : str
        What is claimed.
    verdict : {"proved", "refuted"}
    published : str
        The number printed in the paper; "" for a claim of our own.
    enclosure : str
        Balls "[middle +/- radius]" that contain the exact thresholds, the supremum or the root; "; " between.
    exact : str
        The numbers themselves where they are rational, "algebraic" where they are not; "; " between.
    place : str
        Where each of them is attained; "; " between.
    counter_example : str
        Exact values "name = value" at which a refuted claim fails, ", " between; "" if proved.
    seconds : float
        Wall-clock time of the proof.
    """

    lemma: str
    statement: str
    verdict: str
    published: str
    enclosure: str
    exact: str
    place: str
    counter_example: str
    seconds: float


def paper_claims() -> "list[Claim]":
    """List the published lemmas, each followed by what we add to it.

    Returns
    -------
    list of analysis.proofs.claims.Claim
    """
    from flint import fmpq

    from analysis.proofs import rational_forms as forms
    from analysis.proofs.claims import Identity, Positive, RatioBelow, Segment
    from analysis.proofs.monotonicity import Convex, LamRange, Monotone, NotMonotone, TurnsPositive

    def q(decimal: str) -> fmpq:
        whole, _, part = decimal.partition(".")
        return fmpq(int(whole + part), 10 ** len(part))

    def lam(low: str, high: str | None = None) -> LamRange:
        return LamRange(q(low), None if high is None else q(high))

    beta1_090 = Segment("beta2", q("0.9"), q("0.9"))
    beta1_099 = Segment("beta2", q("0.9"), q("0.99"))
    beta2_999 = Segment("beta1", q("0.9"), q("0.999"))
    equal = Segment("beta", q("0.5"))
    default = Segment("beta2", q("0.999"), q("0.9"))

    def c2_slope(beta1: Any, beta2: Any) -> Any:
        return forms.c2(beta1, beta2) / (beta2 - beta1)

    def equal_c1_slope(beta1: Any, beta2: Any) -> Any:
        cubic = beta1**3 - beta1**2 + 5 * beta1 - 1
        return 2 * cubic / ((1 - beta1) ** 2 * (1 + beta1) ** 3)

    return [
        Monotone("3.4", "0.5082", beta1_090, 1, lam("0.5082")),
        Monotone("3.4", "0.494", beta1_090, -1, lam("0", "0.494")),
        NotMonotone("3.4", "", beta1_090, lam("0.4946", "0.5081")),
        Convex("3.4", "", beta1_090, lam("0.5", "0.5081")),
        Monotone("3.5", "2.685", beta1_099, 1, lam("2.685")),
        Convex("3.5", "0.5; 2.684", beta1_099, lam("0.5", "2.684")),
        Monotone("3.5", "0.499", beta1_099, -1, lam("0", "0.499")),
        NotMonotone("3.5", "", beta1_099, lam("0.4995", "2.6841")),
        Monotone("3.6", "1.002", beta2_999, -1, lam("1.002")),
        Monotone("3.6", "0.995", beta2_999, 1, lam("0", "0.995")),
        NotMonotone("3.6", "", beta2_999, lam("0.9957", "1.0015")),
        Positive("3.7", "0.5", equal, "C1", forms.c1, 1),
        Identity("3.7", "", equal, "C_total(lam = 1) = C1", lambda b, r: forms.c_total(b, r, 1), forms.c1),
        Identity(
            "3.7",
            "",
            equal,
            "dC1/db = 2 (b^3 - b^2 + 5b - 1)/((1 - b)^2 (1 + b)^3)",
            forms.c1,
            equal_c1_slope,
            1,
        ),
        RatioBelow("A.1", "3e-4", beta1_090, "C4", "C1", q("0.0003")),
        RatioBelow("A.1", "4e-3", beta1_090, "C5", "C1", q("0.004")),
        RatioBelow("A.1", "1e-3", beta1_099, "C4", "C2", q("0.001")),
        RatioBelow("A.1", "6e-3", beta1_099, "C5", "C2", q("0.006")),
        RatioBelow("A.1", "6e-5", beta2_999, "C4", "C2", q("0.00006")),
        RatioBelow("A.1", "5e-4", beta2_999, "C5", "C2", q("0.0005")),
        Positive("signs", "", beta1_090, "C1", forms.c1),
        Positive("signs", "", Segment("beta2", q("0.971"), q("0.99")), "C1", forms.c1),
        Positive("signs", "", beta1_090, "C2/(beta2 - beta1)", c2_slope),
        Positive("signs", "", beta1_099, "C2/(beta2 - beta1)", c2_slope),
        Positive("signs", "", beta2_999, "C2/(beta2 - beta1)", c2_slope),
        TurnsPositive("signs", "", default, lam("0.49", "0.5")),
    ]


def certify(claim: "Claim", digits: int = 30) -> Certificate:
    """Decide one claim and enclose its thresholds.

    Parameters
    ----------
    claim : analysis.proofs.claims.Claim
    digits : int
        Significant decimal digits that every enclosure must certify, >= 1.

    Returns
    -------
    Certificate
        The verdict does not depend on `digits`: it is exact.
    """
    from flint import ctx

    from analysis.proofs.sturm import decimal_text

    start = time.perf_counter()
    accuracy = int(digits * 3.33) + 4  # bits, log2(10) = 3.32...
    precision = accuracy + 60
    while True:
        with ctx.workprec(precision):
            proof = claim.prove()
            accurate = all(
                part.ball.rel_accuracy_bits() >= accuracy or not part.ball.is_finite()
                for part in proof.enclosures
            )
            if accurate:
                break
        precision *= 2
    with ctx.workprec(precision):
        balls = [part.ball.str(digits) if part.ball.is_finite() else "inf" for part in proof.enclosures]
    counter_example = proof.counter_example or {}
    return Certificate(
        lemma=claim.lemma,
        statement=claim.statement(),
        verdict="proved" if proof.counter_example is None else "refuted",
        published=claim.published,
        enclosure="; ".join(balls),
        exact="; ".join("algebraic" if part.exact is None else str(part.exact) for part in proof.enclosures),
        place="; ".join(part.place for part in proof.enclosures),
        counter_example=", ".join(
            f"{name} = {decimal_text(value)}" for name, value in counter_example.items()
        ),
        seconds=time.perf_counter() - start,
    )


def as_text(certificates: Sequence[Certificate], form: str) -> str:
    """Lay the certificates out: as table and JSON with seconds, as CSV without, the same bytes in every run.

    Parameters
    ----------
    certificates : sequence of Certificate
    form : {"table", "json", "csv"}

    Returns
    -------
    str
        Ends with a line end.
    """
    rows = [asdict(certificate) for certificate in certificates]
    if form == "json":
        return to_json({"all_proved": all(row["verdict"] == "proved" for row in rows), "claims": rows}) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()
    shown = ["lemma", "statement", "verdict", "enclosure", "seconds"]
    text = (
        to_table(shown, [[row[name] for name in shown[:-1]] + [f"{row['seconds']:.3f}"] for row in rows])
        + "\n"
    )
    for row in rows:
        if row["counter_example"]:
            text += f"refuted: {row['statement']}: fails at {row['counter_example']}\n"
    return text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m analysis.certify",
        description="Prove Lemmas A.1, 3.4, 3.5, 3.6, 3.7 for all values of their ranges and enclose "
        "each threshold. Exit status: 0 all proved, 1 one refuted, 2 bad usage.",
    )
    parser.add_argument(
        "--digits", type=Number(int, 1, 1000), default=30, help="certified digits of a threshold"
    )
    parser.add_argument(
        "--format", choices=["table", "json", "csv"], default="table", help="csv leaves the seconds out"
    )
    parser.add_argument("--out", type=Path, help="file to write; without it, standard output")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prove or refute the published lemmas; the exit status is 0 if all are proved, else 1."""
    args = parser().parse_args(argv)
    certificates = [certify(claim, args.digits) for claim in paper_claims()]
    text = as_text(certificates, args.format)
    if args.out is None:
        sys.stdout.write(text)
    else:
        with atomic_write(args.out) as file:
            file.write(text)
    return 0 if all(certificate.verdict == "proved" for certificate in certificates) else 1


if __name__ == "__main__":
    run(main)
