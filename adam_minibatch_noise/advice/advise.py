"""One answer to "my batch size changed, which betas?": the theory's, other rules', and what was measured of each.

References
----------
.. [1] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from adam_minibatch_noise.advice import words
from adam_minibatch_noise.advice.evidence import evidence_on
from adam_minibatch_noise.advice.field_rules import FIELD_RULES, RuleAnswer, Situation, answers
from adam_minibatch_noise.advice.regimes import rule_of_thumb
from adam_minibatch_noise.advice.sweeps import BETA1_GRID, BETA2_GRID, Schedule, best, parts, turns
from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.ranges import BETA, POSITIVE, POSITIVE_OR_INFINITE, Array, within
from adam_minibatch_noise.theory import batch_variance_factor, critical_batch_size

TURNS_AT = {"beta2": 0.5, "beta1": 1.0}
"""Noise-to-signal ratio at which the preferred value of each beta turns, at the usual value of the other: Lemmas 3.4
and 3.6 of [1]_, rounded."""


class Estimated(Protocol):
    """What `adam_minibatch_noise.noise_scale.NoiseEstimate` has."""

    @property
    def b_simple(self) -> float:
        """Estimate, in samples."""

    @property
    def low(self) -> float:
        """Lower end of its interval."""

    @property
    def high(self) -> float:
        """Upper end of its interval."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; a plain number has both ends there.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Advice:
    """What to set, and why.

    Attributes
    ----------
    n_samples, batch_size, lr, betas, n_epochs, reference_batch_size
        As they were given; `n_epochs` None where the length is unknown.
    noise_scale : Interval
        B_simple, in samples.
    lam : Interval
        Noise-to-signal ratio of a batch gradient.
    critical_batch_size : dict of str to dict
        For "beta2" and "beta1", whose preferred value turns there: "limit", an `Interval` of batch sizes after the rule
        of thumb; "limit_at_betas" and "exact", pairs of the batch sizes between which it turns at the other beta in
        use, as n -> infinity and at the end of these epochs, None where they were not computed.
    regime : {"noise", "between", "signal", "undecided"}
        lam > 1, 1/2 <= lam <= 1, lam < 1/2; undecided where the interval has several.
    c_total : dict of str to Interval or None
        "limit" and "exact" (None where it was not computed), at the betas in use. Larger: flatter minima.
    recommended : dict of str to dict
        "beta2_at_beta1" and "beta1_at_beta2": the theory's "best" of the usual grid, "low" and "high" over the
        interval, and "basis", "exact" or "limit".
    rules : list of dict
        Every rule of the field, each a `FieldRule`: name, title, formula, source, applies, aim, lr, beta1, beta2
        (None where it does not apply, with a note), c_total (None for another optimiser), evidence.
    text : str
        The advice in sentences, one a line.
    """

    n_samples: float
    batch_size: int
    lr: float
    betas: tuple[float, float]
    n_epochs: float | None
    reference_batch_size: int | None
    noise_scale: Interval
    lam: Interval
    critical_batch_size: dict[str, dict[str, Any]]
    regime: str
    c_total: dict[str, Interval | None]
    recommended: dict[str, dict[str, Any]]
    rules: list[dict[str, Any]]
    text: str

    def __str__(self) -> str:
        """The sentences alone."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return everything as lists, dicts and finite numbers, for JSON; what is infinite is None."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def advise(
    n_samples: float,
    batch_size: int,
    noise_scale: "float | tuple[float, float] | Estimated",
    betas: tuple[float, float] = (0.9, 0.999),
    lr: float = 1e-3,
    *,
    n_epochs: float | None = None,
    n_steps: int | None = None,
    reference_batch_size: int | None = None,
) -> Advice:
    """Say which betas fit a batch size, after the theory of [1]_ and beside the field's other rules.

    Parameters
    ----------
    n_samples : float
        N, training samples, drawn without replacement in each epoch; infinite where none comes twice.
    batch_size : int
        b, 1 <= b <= N, in samples.
    noise_scale : float, (float, float) or NoiseEstimate
        B_simple = tr(Sigma)/|g|², in samples: a number > 0, the ends of an interval, or what a meter returned, measured
        at this batch size.
    betas : (float, float)
        In use, each in [0, 1).
    lr : float
        In use, > 0.
    n_epochs : float, optional
        Length of training; one step at least.
    n_steps : int, optional
        The same in steps.
    reference_batch_size : int, optional
        Batch size at which `lr` and `betas` were chosen: rules that carry settings over start from it.

    Returns
    -------
    Advice

    Raises
    ------
    InputError
        A value outside its range, an interval that is upside down, both lengths.

    Notes
    -----
    C_total compares betas at one learning rate, to second order in the noise and first order in the learning rate.
    """
    samples = _count("n_samples", n_samples, 1, infinite=True)
    batch = int(_count("batch_size", batch_size, 1))
    factor = float(batch_variance_factor(samples, batch))
    scale = _interval(noise_scale)
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise InputError(f"betas is {betas!r}, allowed: two numbers, beta1 and beta2")
    beta1, beta2 = (float(within(f"beta{i}", beta, BETA, ())) for i, beta in enumerate(betas, 1))
    rate = float(within("lr", lr, POSITIVE, ()))
    reference = None
    if reference_batch_size is not None:
        reference = int(_count("reference_batch_size", reference_batch_size, 1))
    steps, epochs = _length(samples, batch, n_epochs, n_steps)
    schedule = Schedule(samples, batch, steps)

    lam = Interval(*(factor * x if factor else 0.0 for x in (scale.value, scale.low, scale.high)))
    regimes = {rule_of_thumb(x).regime for x in (lam.low, lam.value, lam.high)}
    regime = regimes.pop() if len(regimes) == 1 else "undecided"
    in_use = np.array([beta1]), np.array([beta2])
    c_total = {kind: _c_total(*in_use, schedule, kind == "exact", lam) for kind in ("limit", "exact")}
    recommended = {
        "beta2_at_beta1": _best("beta2", beta1, schedule, lam),
        "beta1_at_beta2": _best("beta1", beta2, schedule, lam),
    }
    critical = {
        "beta2": _critical("beta2", beta1, schedule, scale, epochs),
        "beta1": _critical("beta1", beta2, schedule, scale, epochs),
    }
    situation = Situation(batch, rate, beta1, beta2, reference, recommended["beta2_at_beta1"]["best"])
    rules = [_row(answer, schedule, lam) for answer in answers(situation)]
    found = Advice(
        samples, batch, rate, (beta1, beta2), epochs, reference, scale, lam, critical, regime, c_total, recommended,
        rules, "",
    )  # fmt: skip
    return dataclasses.replace(found, text=words.sentences(found))


def _count(name: str, value: Any, least: int, infinite: bool = False) -> float:
    allowed = f"a whole number >= {least}" + (", or infinite" if infinite else "")
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number >= least and (number == math.inf or number == math.floor(number))) or (
        number == math.inf and not infinite
    ):
        raise InputError(f"{name} is {value}, allowed: {allowed}")
    return number


def _interval(noise_scale: Any) -> Interval:
    """Return estimate and ends of whatever was given as the noise scale."""
    if isinstance(noise_scale, tuple | list):
        if len(noise_scale) != 2:
            raise InputError(f"noise_scale is {noise_scale}, allowed: a number, or two ends of an interval")
        low = float(within("noise_scale", noise_scale[0], POSITIVE, ()))
        high = float(within("noise_scale", noise_scale[1], POSITIVE_OR_INFINITE, ()))
        value = low if math.isinf(high) else math.sqrt(low) * math.sqrt(high)
    elif all(hasattr(noise_scale, name) for name in ("b_simple", "low", "high")):
        value, low, high = (float(getattr(noise_scale, name)) for name in ("b_simple", "low", "high"))
        if math.isnan(value + low + high) or (low == 0 and high == math.inf):
            raise InputError("noise_scale is an estimate without a finite end, needed: more measurements")
        value = low if math.isinf(value) else min(max(value, low), high)
    else:
        value = low = high = float(within("noise_scale", noise_scale, POSITIVE, ()))
    if low > high:
        raise InputError(
            f"noise_scale is an interval from {low:g} to {high:g}, allowed: the smaller end first"
        )
    return Interval(value, low, high)


def _length(
    n_samples: float, batch_size: int, n_epochs: float | None, n_steps: int | None
) -> tuple[int | None, float | None]:
    """Return steps and epochs of training, None where nothing was said."""
    if n_epochs is not None and n_steps is not None:
        raise InputError("n_epochs and n_steps are both given, allowed: one of them")
    per_epoch = max(math.floor(n_samples / batch_size), 1) if math.isfinite(n_samples) else math.inf
    if n_steps is not None:
        steps = int(_count("n_steps", n_steps, 1))
        return steps, steps / per_epoch if math.isfinite(per_epoch) else None
    if n_epochs is None:
        return None, None
    epochs = float(within("n_epochs", n_epochs, POSITIVE, ()))
    if math.isinf(per_epoch):
        raise InputError(f"n_epochs is {epochs:g} with infinite n_samples, needed: n_steps")
    if epochs * per_epoch < 1:
        raise InputError(f"n_epochs is {epochs:g}, allowed: at least one step, 1/{per_epoch} of an epoch")
    return math.floor(epochs * per_epoch), epochs


def _c_total(beta1: Array, beta2: Array, schedule: Schedule, exact: bool, lam: Interval) -> Interval | None:
    found = parts(beta1, beta2, schedule, exact)
    if found is None:
        return None
    value, *ends = (_at(found, x) for x in (lam.value, lam.low, lam.high))
    return Interval(value, min(ends), max(ends))


def _at(found: tuple[Array, Array], lam: float) -> float:
    """C_total of one pair of betas; infinite where the noise is, unless it does not count."""
    forward, noise = (float(each[0]) for each in found)
    return forward + (noise * lam if noise else 0.0)


def _best_known(beta1: Array, beta2: Array, schedule: Schedule) -> tuple[tuple[Array, Array], str]:
    """FB and C1 + C2, exact where they can be, and which they are."""
    exact = parts(beta1, beta2, schedule, exact=True)
    limit = parts(beta1, beta2, schedule, exact=False)
    assert limit is not None
    return (limit, "limit") if exact is None else (exact, "exact")


def _best(swept: str, fixed: float, schedule: Schedule, lam: Interval) -> dict[str, Any]:
    """Return the theory's best value of one beta at the other, exact where it can be."""
    grid = BETA2_GRID if swept == "beta2" else BETA1_GRID
    swept_values, fixed_values = np.array(grid), np.full(len(grid), fixed)
    beta1, beta2 = (fixed_values, swept_values) if swept == "beta2" else (swept_values, fixed_values)
    found, basis = _best_known(beta1, beta2, schedule)
    value, low, high = best(grid, *found, (lam.value, lam.low, lam.high))
    return {"best": value, "low": low, "high": high, "basis": basis}


def _critical(
    swept: str, fixed: float, schedule: Schedule, scale: Interval, epochs: float | None
) -> dict[str, Any]:
    """Return the batch sizes at which the preferred value of one beta turns."""

    def size(noise_scale: float) -> float:
        if noise_scale == 0 or math.isinf(schedule.n_samples):  # lam = B_simple/b
            return noise_scale / TURNS_AT[swept]
        return float(critical_batch_size(schedule.n_samples, noise_scale, TURNS_AT[swept]))

    limit = Interval(*(size(x) for x in (scale.value, scale.low, scale.high)))
    found: dict[str, Any] = {}
    if epochs is not None and epochs >= 1 and scale.value > 0:
        found = turns(swept, fixed, schedule, scale.value, math.floor(epochs), limit.value)
    return {"limit": limit, "limit_at_betas": found.get("limit"), "exact": found.get("exact")}


def _row(answer: RuleAnswer, schedule: Schedule, lam: Interval) -> dict[str, Any]:
    """Return a rule, what it says here, C_total there, and what the study found."""
    rule, evidence = FIELD_RULES[answer.name], evidence_on(answer.name)
    described = {name: getattr(rule, name) for name in ("title", "formula", "source", "applies", "aim")}
    at_betas = None
    if rule.for_adam and answer.beta1 is not None and answer.beta2 is not None:
        pair = np.array([answer.beta1]), np.array([answer.beta2])
        at_betas = _at(_best_known(*pair, schedule)[0], lam.value)
    said = {"lr": answer.lr, "beta1": answer.beta1, "beta2": answer.beta2, "note": answer.note}
    study = {"evidence": str(evidence), "verdicts": evidence.verdicts}
    return {"name": answer.name, **described, **said, "c_total": at_betas, **study}
