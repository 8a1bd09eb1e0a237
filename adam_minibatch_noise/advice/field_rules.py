"""The rules by which practitioners choose Adam's settings for a batch size: one registry, an entry a rule.

References
----------
.. [1] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
.. [2] M. Marek et al., "Small batch size training for language models", arXiv 2507.07101, 2025.
.. [3] marin-community, marin, issue 4567: a sweep of pretraining runs, and the rule that was drawn from it.
.. [4] A. Orvieto, R. M. Gower, "In search of Adam's secret sauce", arXiv 2505.21829, 2025.
.. [5] S. Malladi, K. Lyu, A. Panigrahi, S. Arora, "On the SDEs and scaling rules for adaptive gradient algorithms",
   NeurIPS 2022, arXiv 2205.10287.
.. [6] X. Wang, L. Aitchison, "Batch size invariant Adam", arXiv 2402.18824, 2024.
.. [7] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from adam_minibatch_noise.theory import scaling_rule

Settings = tuple[float, float, float]
"""Learning rate, beta1, beta2."""


@dataclass(frozen=True)
class Situation:
    """What a rule may look at.

    Attributes
    ----------
    batch_size : int
    lr, beta1, beta2 : float
        In use, at `reference_batch_size` if there is one.
    reference_batch_size : int or None
        Batch size at which these settings were chosen.
    best_beta2 : float
        The theory's best beta2 at this beta1.
    """

    batch_size: int
    lr: float
    beta1: float
    beta2: float
    reference_batch_size: int | None
    best_beta2: float

    @property
    def kappa(self) -> float:
        """How many times as large the batch is as the reference."""
        return self.batch_size / (self.reference_batch_size or self.batch_size)


@dataclass(frozen=True)
class FieldRule:
    """One rule.

    Attributes
    ----------
    title, formula, source : str
        With b the batch size, b0 that of the reference, and kappa = b/b0.
    applies : str
        When it is meant to be used.
    aim : str
        What it keeps or favours: rules with other aims give other betas.
    settings : callable
        Of a `Situation`.
    needs_reference : bool
        Whether it carries settings over from another batch size.
    for_adam : bool
        False for another optimiser, to which C_total of Adam does not apply.
    """

    title: str
    formula: str
    source: str
    applies: str
    aim: str
    settings: Callable[[Situation], Settings]
    needs_reference: bool = False
    for_adam: bool = True


def _constant_memory(s: Situation) -> Settings:
    return s.lr, s.beta1, s.beta2**s.kappa


def _clipped(s: Situation) -> Settings:
    return s.lr, 0.9062, min(max(0.999 ** (s.batch_size / 32), 0.95), 0.9999)


def _scaled(rule: str) -> Callable[[Situation], Settings]:
    def settings(s: Situation) -> Settings:
        lr, beta1, beta2 = (float(x) for x in scaling_rule(rule, s.kappa, s.lr, s.beta1, s.beta2))
        return lr, beta1, beta2

    return settings


FIELD_RULES: dict[str, FieldRule] = {
    "c_total": FieldRule(
        "theory of mini-batch noise",
        "the beta2 of the usual grid with the largest C_total(beta1, beta2, lam)",
        "Cattaneo and Shigida 2026, arXiv:2602.01642",
        "several epochs, near overfitting; it compares betas at one learning rate",
        "flat minima",
        lambda s: (s.lr, s.beta1, s.best_beta2),
    ),
    "constant_memory": FieldRule(
        "constant memory in samples",
        "beta2 = beta2(b0)^(b/b0)",
        "Marek et al. 2025, arXiv:2507.07101",
        "one pass over the data, small batches; beta1 and the learning rate stay",
        "the same memory of squared gradients, in samples, as at the reference",
        _constant_memory,
        needs_reference=True,
    ),
    "marin_clip": FieldRule(
        "clipped power of the batch size",
        "beta1 = 0.9062, beta2 = 0.999^(b/32) between 0.95 and 0.9999",
        "marin-community/marin, issue 4567",
        "pretraining of language models in one pass; a sample is a sequence",
        "the same memory of squared gradients, in samples, as 0.999 at batch size 32",
        _clipped,
    ),
    "equal_betas": FieldRule(
        "equal betas",
        "beta2 = beta1",
        "Orvieto and Gower 2025, arXiv:2505.21829",
        "language models in one pass, with the learning rate tuned",
        "one memory for gradients and their squares",
        lambda s: (s.lr, s.beta1, s.beta1),
    ),
    "square_root": FieldRule(
        "square-root rule",
        "lr = sqrt(kappa) lr0, 1 - beta = kappa (1 - beta0) for both, eps = eps0/sqrt(kappa)",
        "Malladi et al. 2022, arXiv:2205.10287",
        "noise dominates the gradient of a batch (lam far above 1), settings are good at the reference",
        "the same path as at the reference, as the learning rate tends to 0",
        _scaled("square-root"),
        needs_reference=True,
    ),
    "batch_invariant": FieldRule(
        "batch-size invariant Adam",
        "lr = kappa lr0, 1 - beta = kappa (1 - beta0) for both",
        "Wang and Aitchison 2024, arXiv:2402.18824",
        "with BatchSizeInvariantAdamW and one micro-batch size throughout, settings are good at the reference",
        "the same path as at the reference, as the learning rate tends to 0",
        _scaled("invariant"),
        needs_reference=True,
        for_adam=False,
    ),
    "default": FieldRule(
        "the library's default",
        "beta1 = 0.9, beta2 = 0.999",
        "Kingma and Ba 2015, arXiv:1412.6980; torch.optim.AdamW",
        "no better knowledge",
        "nothing in particular",
        lambda s: (s.lr, 0.9, 0.999),
    ),
}
"""By name; `analysis.advice_evidence` refers to the names."""


@dataclass(frozen=True)
class RuleAnswer:
    """What a rule says in a situation.

    Attributes
    ----------
    name : str
        In `FIELD_RULES`.
    lr, beta1, beta2 : float or None
        None where the rule says nothing.
    note : str
        Why it says nothing; otherwise empty.
    """

    name: str
    lr: float | None
    beta1: float | None
    beta2: float | None
    note: str = ""


def answers(situation: Situation) -> list[RuleAnswer]:
    """Ask every rule.

    Parameters
    ----------
    situation : Situation

    Returns
    -------
    list of RuleAnswer
        In the order of the registry.
    """
    return [_answer(name, rule, situation) for name, rule in FIELD_RULES.items()]


def _answer(name: str, rule: FieldRule, s: Situation) -> RuleAnswer:
    if rule.needs_reference and s.reference_batch_size is None:
        return RuleAnswer(name, None, None, None, "needs the batch size that the settings come from")
    lr, beta1, beta2 = rule.settings(s)
    if min(beta1, beta2) < 0:
        reference, fastest = s.reference_batch_size or s.batch_size, min(s.beta1, s.beta2)
        # 1 - beta may grow to 1: up to b0/(1 - beta0)
        largest = math.floor(reference / (1 - fastest) * (1 + 1e-12))
        return RuleAnswer(
            name, None, None, None, f"batch too large for it: at most {largest} from {reference}"
        )
    return RuleAnswer(name, lr, beta1, beta2)
