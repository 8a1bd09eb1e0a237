"""From the study of the best betas to what `adam_minibatch_noise.advice` says that it found of each rule."""

import math
from collections.abc import Mapping
from typing import Any

from adam_minibatch_noise.advice.evidence import VERDICTS
from adam_minibatch_noise.advice.field_rules import FIELD_RULES
from adam_minibatch_noise.errors import InputError

CURVE = "beta2"
"""Only beta2 is swept by all rules."""
LANGUAGE_MODEL = "small Transformer-XL"
"""Title of its part."""
STUDIED = {
    "C_total, exact": "c_total",
    "constant in samples": "constant_memory",
    "clipped, in samples": "marin_clip",
    "square root": "square_root",
    "beta1 = beta2": "equal_betas",
    "default .999": "default",
}
"""Rules of the study (R4, `analysis.reductions.overfitting.rankings.RULES`) to their names in `FIELD_RULES`; batch-size
invariant Adam, another optimiser, is none of them."""


def summarize(
    source: str, judged: Mapping[str, Any], text: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect the tasks of each rule by verdict.

    A rule holds on a task where the interval of its rank correlation with the measured losses lies above 0, and is
    opposite where it lies below.

    Parameters
    ----------
    source : str
        What the verdicts come from, for readers.
    judged : mapping
        What `analysis.overfitting_verdicts` writes for one set of tables: `variants` with variant and title, `rules`
        with variant, curve, rule, rank_low, rank_high and regret, in percent.
    text : mapping, optional
        Its part on the language model, with `rules`; may be empty.

    Returns
    -------
    dict
        As `adam_minibatch_noise/advice/evidence.json` holds it. Each task with what following the rule costs there.

    Raises
    ------
    InputError
        Parts that are missing or are none; two verdicts on one task.
    """
    try:
        titles = {row["variant"]: str(row["title"]) for row in judged["variants"]}
        more = text["rules"] if text else []
        if more:
            titles |= {row["variant"]: LANGUAGE_MODEL for row in more}
            source += " and records/train/small_sweep"
        rows = [row for row in [*judged["rules"], *more] if row["curve"] == CURVE and row["rule"] in STUDIED]
        found: dict[str, dict[str, list[str]]] = {}
        seen = set()
        for row in rows:
            rule, title, regret = STUDIED[row["rule"]], titles[row["variant"]], row["regret"]
            if (rule, title) in seen:
                raise InputError(f"there are two verdicts of rule {row['rule']!r} on {title}, allowed: one")
            seen.add((rule, title))
            cost = f" (costs {regret:.1f} %)" if regret is not None and math.isfinite(regret) else ""
            found.setdefault(rule, {}).setdefault(_verdict(row), []).append(title + cost)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the verdicts are not those of analysis.overfitting_verdicts: {error!r}") from error
    rules = {
        rule: {verdict: found[rule][verdict] for verdict in VERDICTS if verdict in found[rule]}
        for rule in FIELD_RULES
        if rule in found
    }
    return {"source": source if rules else None, "rules": rules}


def _verdict(row: Mapping[str, Any]) -> str:
    low, high = (math.nan if row[end] is None else row[end] for end in ("rank_low", "rank_high"))
    return "holds" if low > 0 else "opposite" if high < 0 else "open"
