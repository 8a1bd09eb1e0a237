"""The advice in sentences: where one is, what the theory prefers, how sure that is, and what would change it."""

import math
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.advice.evidence import evidence_on

if TYPE_CHECKING:
    from adam_minibatch_noise.advice.advise import Advice, Interval

REGIMES = {
    "noise": "noise dominates the gradient of a batch (a small batch)",
    "between": "between the two critical batch sizes",
    "signal": "the gradient dominates its noise (a large batch)",
    "undecided": "too close to a critical batch size for this interval to decide",
}
WHEN_TO_MEASURE = (
    "Measure the noise scale at the batch size you mean to use and near the lowest validation loss: it grows as "
    "training proceeds, and a run with small batches stops elsewhere (a toy Transformer had 78 [57, 125] samples when "
    "trained at batch size 32, and 259 [229, 300] at 512)."
)


def spread(interval: "Interval", unit: str = "") -> str:
    """Such as "300 [210, 420] samples", or "at least 210 samples"."""
    if math.isinf(interval.high):
        return f"at least {interval.low:.3g}{unit}"
    if interval.low == interval.high:
        return f"{interval.value:.3g}{unit}"
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]{unit}"


def sentences(advice: "Advice") -> str:
    """Return the advice as a paragraph."""
    return "\n".join([_where(advice), _theory(advice), _evidence(advice), _others(advice), WHEN_TO_MEASURE])


def _where(a: "Advice") -> str:
    return (
        f"At batch size {a.batch_size} the noise of a batch gradient is {spread(a.lam)} times its signal "
        f"(lambda, from a noise scale of {spread(a.noise_scale, ' samples')}): {REGIMES[a.regime]}."
    )


def _choice(found: dict[str, Any]) -> str:
    if found["low"] == found["high"]:
        return f"{found['best']:g}"
    return f"{found['best']:g} ({found['low']:g} to {found['high']:g} over the interval of the noise scale)"


def _theory(a: "Advice") -> str:
    beta2, beta1 = a.recommended["beta2_at_beta1"], a.recommended["beta1_at_beta2"]
    sure = "for this many epochs" if beta2["basis"] == "exact" else "in the limit of long training"
    wide = beta2["low"] != beta2["high"]
    return (
        f"For flat minima the theory of mini-batch noise prefers, {sure}, beta2 = {_choice(beta2)} beside beta1 = "
        f"{a.betas[0]:g}, and beta1 = {_choice(beta1)} beside beta2 = {a.betas[1]:g}"
        + ("; narrow the interval by more measurements before you rely on it." if wide else ".")
    )


def _evidence(a: "Advice") -> str:
    found = evidence_on("c_total")
    if not found.measured:
        return (
            "How well that predicts the validation loss is not yet measured in our own study: treat it as a value to "
            "try beside your present one, with the learning rate tuned for both, and not as a setting to adopt unseen."
        )
    against, held, unclear = (found.verdicts[verdict] for verdict in ("opposite", "holds", "open"))
    parts = []
    if held:
        parts.append(f"the validation loss ranked the betas as the theory does on {'; '.join(held)}")
    if unclear:
        parts.append(f"it did not decide on {'; '.join(unclear)}")
    if against:
        parts.append(f"it went the other way on {'; '.join(against)}, where you should not follow the theory")
    costs = "costs" in " ".join(held + unclear + against)
    sure = "In our own study " + ", and ".join(parts) + "."
    if costs:
        sure += (
            " (Costs: how far the loss at the beta2 that the theory names lies above that of the best one.)"
        )
    if not held:
        return sure + " Keep your present betas unless a run of your own says otherwise."
    return sure + (" Compare it with your present betas in a run of your own." if against or unclear else "")


def _others(a: "Advice") -> str:
    """Why rules that carry settings over say something else."""
    moved = [row for row in a.rules if row["name"] in ("batch_invariant", "square_root", "constant_memory")]
    said = [row for row in moved if row["beta2"] is not None]
    if a.reference_batch_size is None:
        return (
            "Rules that carry settings over from another batch size need that size; they aim for the same training as "
            "there, not for flat minima, and may name other betas."
        )
    if a.reference_batch_size == a.batch_size:
        return "Rules that carry settings over change nothing, as the batch size is that of the reference."
    if not said:
        return "No rule that carries settings over from the reference reaches this batch size."
    listed = ", ".join(
        f"{row['title']}: beta1 {row['beta1']:.4g}, beta2 {row['beta2']:.4g}, lr {row['lr']:.3g}"
        for row in said
    )
    return (
        f"Rules that carry settings over from batch size {a.reference_batch_size} ({listed}) say something else "
        "because they keep training as it was there, while the theory asks which minima are flat; if the reference was "
        "tuned well, start from them, and take the theory's betas as the alternative."
    )
