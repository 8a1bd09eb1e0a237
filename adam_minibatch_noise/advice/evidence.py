"""What our own study measured of each rule: one small file, made from its verdicts by `analysis.advice_evidence`."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

NOT_MEASURED = "not yet measured"
VERDICTS = ("holds", "open", "opposite")


@dataclass(frozen=True)
class Evidence:
    """Verdicts of the study on one rule.

    Attributes
    ----------
    verdicts : dict of str to list of str
        From each of `VERDICTS` to the tasks that have it; empty where the rule was not measured.
    """

    verdicts: dict[str, list[str]]

    @property
    def measured(self) -> bool:
        """Whether there is a verdict on any task."""
        return any(self.verdicts.values())

    def __str__(self) -> str:
        """Such as "holds: digits; words. opposite: regression"."""
        parts = [f"{verdict}: {'; '.join(tasks)}" for verdict, tasks in self.verdicts.items() if tasks]
        return ". ".join(parts) or NOT_MEASURED


@cache
def _recorded() -> dict[str, Any]:
    text = files("adam_minibatch_noise.advice").joinpath("evidence.json").read_text(encoding="utf-8")
    recorded: dict[str, Any] = json.loads(text)
    return recorded


def evidence_on(rule: str) -> Evidence:
    """Verdicts on a rule, by its name in `field_rules.FIELD_RULES`."""
    found = _recorded()["rules"].get(rule, {})
    return Evidence({verdict: list(found.get(verdict, [])) for verdict in VERDICTS})
