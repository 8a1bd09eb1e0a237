"""Write the page of claims and verdicts, docs/claims.md, from docs/claims.yaml: `make claims`."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.files import atomic_write

SOURCE, PAGE = Path("docs/claims.yaml"), Path("docs/claims.md")
VERDICTS = ("proved", "holds", "in part", "reversed", "open")
HEAD = """\
<!-- Made by `make claims` from docs/claims.yaml; edit that. -->
# Claims and verdicts

What the three papers claim, and what this project adds: each with a verdict, what was measured, and how to check it.
{counts}
Figures are in `results/analysis` after `make`; minutes are those of two laptop-class cores.
"""


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it.

    Attributes
    ----------
    claim : str
        One sentence.
    verdict : str
        One of `VERDICTS`.
    evidence : str
        What was measured, under which conditions.
    source : str
        Where it is claimed.
    tests : list of str
        Modules that check it.
    figure : str
        Name in paper/figures.yaml; may be empty.
    command : str
        May be empty.
    minutes : float
        That the command takes.
    """

    claim: str
    verdict: str
    evidence: str
    source: str
    tests: list[str]
    figure: str = ""
    command: str = ""
    minutes: float = 0.0

    def text(self) -> str:
        """Return the claim as an item of a list, the verdict first."""
        time = f" ({self.minutes:g} min)" if self.minutes >= 1 else ""
        checks = [
            f"`{self.command}`{time}" if self.command else "",
            f"figure `{self.figure}`" if self.figure else "",
            ", ".join(f"`{test}`" for test in self.tests),
        ]
        return (
            f"- **{self.verdict.capitalize()}.** {self.claim}\n"
            f"  *{self.evidence.rstrip()}*\n"
            f"  <br>{self.source[0].upper()}{self.source[1:]}. Check: {'; '.join(filter(None, checks))}.\n"
        )


def read(path: Path = SOURCE) -> list[tuple[dict[str, str], list[Claim]]]:
    """Return the parts of the page, each with its title, symbols and paper, and its claims.

    Raises
    ------
    InputError
        A claim has a verdict or a field that does not exist.
    """
    parts = []
    for part in yaml.safe_load(path.read_text(encoding="utf-8"))["parts"]:
        claims = [_claim(given) for given in part.pop("claims")]
        parts.append((part, claims))
    return parts


def _claim(given: dict[str, Any]) -> Claim:
    try:
        claim = Claim(**given)
    except TypeError as error:
        raise InputError(f"claim {given.get('claim')!r}: {error}") from None
    if claim.verdict not in VERDICTS:
        raise InputError(f"verdict is {claim.verdict!r}, allowed: {', '.join(VERDICTS)}")
    return claim


def page(parts: list[tuple[dict[str, str], list[Claim]]]) -> str:
    """Return the page as Markdown."""
    found = Counter(claim.verdict for _, claims in parts for claim in claims)
    words = {
        "proved": "proved",
        "holds": "hold",
        "in part": "hold in part",
        "reversed": "are reversed",
        "open": "open",
    }
    counts = ", ".join(f"{found[verdict]} {words[verdict]}" for verdict in VERDICTS if found[verdict])
    text = HEAD.format(counts=f"Of {found.total()} claims: {counts}.")
    for part, claims in parts:
        paper = f"{part['paper']}. " if "paper" in part else ""
        text += f"\n## {part['title']}\n\n{paper}{part['symbols'].rstrip()}\n\n"
        text += "\n".join(claim.text() for claim in claims)
    return text


def parser() -> Parser:
    """Return the parser of the command line."""
    return Parser(
        prog="python -m docs.make_claims", description=__doc__, examples=("python -m docs.make_claims",)
    )


def main(argv: list[str] | None = None) -> None:
    """Write the page."""
    parser().parse_args(argv)
    with atomic_write(PAGE) as file:
        file.write(page(read()))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    run(main)
