"""The rule of thumb of the paper: three regimes of the noise-to-signal ratio of a batch.

References
----------
.. [1] Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642, 2026.
"""

from dataclasses import dataclass

from adam_minibatch_noise.ranges import NONNEGATIVE_OR_INFINITE, within


@dataclass(frozen=True)
class RuleOfThumb:
    """What the rule of thumb says at one noise-to-signal ratio.

    Attributes
    ----------
    regime : {"noise", "between", "signal"}
        lam > 1, 1/2 <= lam <= 1, lam < 1/2.
    beta1, beta2 : float or None
        Values to start from; None where the rule names no number.
    text : str
        One sentence.
    """

    regime: str
    beta1: float | None
    beta2: float | None
    text: str


def rule_of_thumb(lam: float) -> RuleOfThumb:
    """Which betas favour flat minima at noise-to-signal ratio `lam`, after Lemmas 3.4 to 3.7 of [1]_.

    `advise` says what to do about it, beside the other rules and what was measured of each.

    Parameters
    ----------
    lam : float
        >= 0 (`adam_minibatch_noise.theory.noise_to_signal`), a single number; infinite where the gradient is zero.

    Returns
    -------
    RuleOfThumb

    Raises
    ------
    InputError
        What is no such number.
    """
    lam = float(within("lam", lam, NONNEGATIVE_OR_INFINITE, ()))
    if lam > 1:
        return RuleOfThumb(
            "noise", 0.9, 0.999, "small batch: a small beta1 and a large beta2, such as 0.9 and 0.999"
        )
    if lam < 0.5:
        return RuleOfThumb(
            "signal", None, None, "large batch: beta1 = beta2, as high as training still converges"
        )
    return RuleOfThumb(
        "between", 0.9, None, "between the critical batch sizes: the best beta2 depends on beta1"
    )
