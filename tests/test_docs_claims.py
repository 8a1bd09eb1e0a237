"""The page of claims is made from one file, and all that it names exists."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from adam_minibatch_noise.errors import InputError
from docs import make_claims

ROOT = Path(__file__).parent.parent
CLAIMS = [claim for _, claims in make_claims.read(ROOT / make_claims.SOURCE) for claim in claims]


def test_the_page_is_that_of_the_file():
    assert (ROOT / make_claims.PAGE).read_text() == make_claims.page(
        make_claims.read(ROOT / make_claims.SOURCE)
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.claim[:40])
def test_a_claim_is_one_short_sentence_and_its_checks_exist(claim):
    assert re.fullmatch(r"[A-Z].*\.", claim.claim)
    assert ". " not in claim.claim
    assert len(claim.claim.split()) <= 36
    assert claim.evidence.endswith(".")
    assert claim.tests
    assert not [name for name in claim.tests if not (ROOT / "tests" / f"{name}.py").exists()]
    figures = yaml.safe_load((ROOT / "paper/figures.yaml").read_text())
    assert not claim.figure or claim.figure in figures
    if claim.command not in ("", "make"):
        python, flag, module, *flags = shlex.split(claim.command)
        assert (python, flag) == ("python", "-m")
        importlib.import_module(module).parser().parse_args(flags)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"verdict": "yes"}, "verdict is 'yes', allowed: proved, holds, in part, reversed, open"),
        ({"minuts": 3}, "claim 'It rains.': .*unexpected keyword argument 'minuts'"),
    ],
)
def test_a_field_or_a_verdict_that_does_not_exist_is_refused(tmp_path, change, line):
    claim = {
        "claim": "It rains.",
        "verdict": "holds",
        "evidence": "Seen.",
        "source": "new",
        "tests": ["test_x"],
    }
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"parts": [{"title": "t", "symbols": "s", "claims": [claim | change]}]}))
    with pytest.raises(InputError, match=line):
        make_claims.read(path)
