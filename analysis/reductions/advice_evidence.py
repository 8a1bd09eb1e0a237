"""From verdicts of the study of betas to what `adam_minibatch_noise.advice` says that the study found of each rule."""

from collections.abc import Iterable, Mapping
from typing import Any

from adam_minibatch_noise.advice.evidence import VERDICTS
from adam_minibatch_noise.advice.field_rules import FIELD_RULES
from adam_minibatch_noise.errors import InputError


def summarize(source: str, verdicts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Collect the tasks of each rule and verdict.

    Parameters
    ----------
    source : str
        What the verdicts come from, for readers.
    verdicts : iterable of mappings
        With rule (a name in `FIELD_RULES`), task (words that may follow "on", with the kind of noise or the batch sizes
        if they matter) and verdict (one of `VERDICTS`).

    Returns
    -------
    dict
        As `adam_minibatch_noise/advice/evidence.json` holds it.

    Raises
    ------
    InputError
        An unknown rule or verdict, no task, or two verdicts on one.
    """
    rules: dict[str, dict[str, list[str]]] = {}
    seen: set[tuple[str, str]] = set()
    for row in verdicts:
        rule, verdict = _one_of("rule", row, FIELD_RULES), _one_of("verdict", row, VERDICTS)
        task = row.get("task")
        if not isinstance(task, str) or not task.strip():
            raise InputError(f"task is {task!r}, allowed: words that may follow 'on'")
        if (rule, task) in seen:
            raise InputError(f"there are two verdicts of rule {rule} on {task}, allowed: one")
        seen.add((rule, task))
        rules.setdefault(rule, {}).setdefault(verdict, []).append(task)
    ordered = {
        rule: {v: rules[rule][v] for v in VERDICTS if v in rules[rule]}
        for rule in FIELD_RULES
        if rule in rules
    }
    return {"source": source, "rules": ordered}


def _one_of(name: str, row: Mapping[str, Any], allowed: Iterable[str]) -> str:
    value = row.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {value!r}, allowed: {', '.join(allowed)}")
    return value
