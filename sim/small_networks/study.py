"""The study of the best betas: which networks are trained, on what, at which settings.

Every variant of a task is trained at each of its batch sizes, with learning rates in half decades around the best ones,
along three curves of betas: beta2 at beta1 = 0.9, beta1 at beta2 = 0.999, and beta1 = beta2. The learning rates of a
batch size were chosen on other seeds (1000 and 1001), so that the best one lies inside for common betas; 0.001, 0.003
and 0.01 are among them wherever batches have at most 256 samples, for the verdicts at one learning rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from adam_minibatch_noise.errors import InputError
from sim.small_networks.settings import DEFAULT_SAMPLES, Settings

BETA2 = (0.5, 0.769, 0.9, 0.957, 0.981, 0.992, 0.996, 0.999, 0.9997)
BETA1 = (0.0, 0.5, 0.8, 0.9, 0.957, 0.981, 0.992)
DIAGONAL = (0.5, 0.769, 0.9, 0.957, 0.981, 0.992)
CURVES = {
    "beta2": tuple((0.9, beta2) for beta2 in BETA2),
    "beta1": tuple((beta1, 0.999) for beta1 in BETA1),
    "diagonal": tuple((beta, beta) for beta in DIAGONAL),
    "map": tuple((beta1, beta2) for beta1 in BETA1 for beta2 in BETA2),
}
"""Pairs of betas (beta1, beta2) of each curve."""
MAIN_CURVES = ("beta2", "beta1", "diagonal")
LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates, in half decades."""
N_SEEDS = 20
"""Seeds of the full study, 0 to 19; the even ones are one half, the odd ones the other."""


@dataclass(frozen=True)
class Variant:
    """A kind of data and noise.

    Attributes
    ----------
    settings : dict
        Of `Settings`: the task and what is special.
    lrs : dict of int to (float, float)
        Least and greatest learning rate of each batch size.
    max_epochs : int
        Of the full batch four times as many: an epoch is one step.
    curves : tuple of str
        Names of `CURVES`.
    title : str
        For figures and tables.
    """

    settings: dict[str, Any]
    lrs: dict[int, tuple[float, float]]
    max_epochs: int
    title: str
    curves: tuple[str, ...] = field(default=MAIN_CURVES)


_DIGITS = {
    1: (1e-4, 1e-2), 4: (3e-4, 1e-2), 16: (1e-3, 3e-2), 64: (1e-3, 3e-2), 256: (1e-3, 3e-2), 1024: (1e-3, 3e-2),
}  # fmt: skip
_TEXT = {
    1: (3e-4, 3e-3), 4: (3e-4, 1e-2), 16: (1e-3, 1e-2), 64: (1e-3, 1e-2), 256: (1e-3, 1e-2), 4096: (1e-3, 1e-2),
}  # fmt: skip
_REGRESSION = {
    1: (1e-4, 1e-2), 4: (1e-4, 1e-2), 16: (1e-4, 1e-2), 64: (1e-4, 1e-2), 128: (1e-4, 1e-2),
}  # fmt: skip
_CNN = {1: (3e-4, 3e-2), 4: (3e-4, 3e-2), 16: (1e-3, 3e-2), 64: (1e-3, 3e-2), 256: (1e-3, 1e-2)}

VARIANTS = {
    "digits": Variant({"task": "digits"}, _DIGITS, 3000, "digits"),
    "digits-wrong-30": Variant(
        {"task": "digits", "label_noise": 0.3}, _DIGITS, 3000, "digits, 30 % wrong labels"
    ),
    "words": Variant({"task": "words"}, _TEXT, 400, "words"),
    "characters": Variant({"task": "characters"}, _TEXT, 400, "characters"),
    "regression": Variant({"task": "regression"}, _REGRESSION, 6000, "linear regression"),
    "cnn": Variant({"task": "cnn", "label_noise": 0.1}, _CNN, 3000, "CNN, 10 % wrong labels"),
    "cnn-wrong-20": Variant(
        {"task": "cnn", "label_noise": 0.2}, _CNN, 3000, "CNN, 20 % wrong labels"
    ),  # with 10 %, the lowest losses are those of runs that never reach a minimum
    "digits-wrong-10": Variant(
        {"task": "digits", "label_noise": 0.1}, _DIGITS, 3000, "digits, 10 % wrong labels"
    ),
    "words-frozen": Variant(
        {"task": "words", "embedding": "frozen"}, _TEXT, 400, "words, embedding fixed", ("beta2",)
    ),
    "digits-replacement": Variant(
        {"task": "digits", "replacement": True}, _DIGITS, 3000, "digits, drawn with replacement", ("beta2",)
    ),
    "words-one-hot": Variant(
        {"task": "words", "embedding": "one-hot"}, _TEXT, 400, "words, one-hot", ("beta2",)
    ),
    "digits-map": Variant(
        {"task": "digits"}, {size: _DIGITS[size] for size in (1, 64, 1024)}, 3000, "digits", ("map",)
    ),
    "words-map": Variant(
        {"task": "words"}, {size: _TEXT[size] for size in (1, 64, 4096)}, 400, "words", ("map",)
    ),
    "digits-wrong-30-map": Variant(
        {"task": "digits", "label_noise": 0.3},
        {size: _DIGITS[size] for size in (1, 64, 1024)},
        3000,
        "digits, 30 % wrong labels",
        ("map",),
    ),
}
"""By name, the most telling ones first. Those that end in -map give all pairs of betas at three batch sizes."""


def settings_of(
    variant: str, seeds: Sequence[int], batch_sizes: Sequence[int] = (), curves: Sequence[str] = ()
) -> list[Settings]:
    """List the runs of a variant, seed by seed.

    Parameters
    ----------
    variant : str
        One of `VARIANTS`.
    seeds : sequence of int
    batch_sizes, curves : sequences, optional
        Those of the variant to take; default: all.

    Raises
    ------
    InputError
        The variant has no such batch size or curve.
    """
    v = VARIANTS[variant]
    for name, wanted, there in (("batch_size", batch_sizes, v.lrs), ("curve", curves, v.curves)):
        for one in wanted:
            if one not in there:
                raise InputError(f"{name} is {one}, allowed for {variant}: {' '.join(map(str, there))}")
    epochs = {size: v.max_epochs * (4 if size == n_samples_of(variant) else 1) for size in v.lrs}
    pairs = list(dict.fromkeys(pair for curve in curves or v.curves for pair in CURVES[curve]))
    return [
        Settings(
            **v.settings, batch_size=size, lr=lr, beta1=beta1, beta2=beta2, max_epochs=epochs[size], seed=seed
        )
        for seed in seeds
        for size in batch_sizes or v.lrs
        for lr in LRS
        if v.lrs[size][0] <= lr <= v.lrs[size][1]
        for beta1, beta2 in pairs
    ]


def n_samples_of(variant: str) -> int:
    """Training samples of a variant."""
    return DEFAULT_SAMPLES[VARIANTS[variant].settings["task"]]
