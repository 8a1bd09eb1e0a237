"""Settings of Adam for another batch size, scaled from a reference.

References
----------
.. [1] X. Wang, L. Aitchison, "Batch size invariant Adam", arXiv 2402.18824, 2024.
.. [2] S. Malladi, K. Lyu, A. Panigrahi, S. Arora, "On the SDEs and scaling rules for adaptive gradient algorithms",
   NeurIPS 2022, arXiv 2205.10287.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import scaling_rule

RULES = ("invariant", "square-root")
"""How `scale_from_reference` scales the learning rate: as kappa [1]_, or as its square root [2]_."""


@dataclass(frozen=True)
class Scaled:
    """Settings for another batch size.

    Attributes
    ----------
    lr : float
    betas : (float, float)
    eps : float
        Outside the root.
    """

    lr: float
    betas: tuple[float, float]
    eps: float


def scale_from_reference(
    batch_size: int,
    reference_batch_size: int,
    lr: float,
    betas: tuple[float, float],
    eps: float = 1e-8,
    rule: str = "invariant",
) -> Scaled:
    """Scale settings that were chosen at one batch size to another.

    With kappa = batch_size / reference_batch_size, 1 - beta1 and 1 - beta2 grow as kappa, and

    - "invariant" [1]_: lr as kappa, eps as it is; for `BatchSizeInvariantAdamW` with one micro-batch size throughout;
    - "square-root" [2]_: lr as sqrt(kappa), eps as 1/sqrt(kappa); for AdamW where noise dominates the gradient.

    Both keep training as it was at the reference. Which betas favour flat minima is another question:
    `adam_minibatch_noise.advice.advise` answers both, side by side.

    Parameters
    ----------
    batch_size, reference_batch_size : int
        >= 1, in samples.
    lr : float
        > 0, at the reference.
    betas : (float, float)
        In [0, 1), at the reference.
    eps : float
        >= 0, at the reference.
    rule : {"invariant", "square-root"}

    Returns
    -------
    Scaled

    Raises
    ------
    InputError
        A value outside its range, or a beta that would fall below 0.
    """
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}, allowed: {', '.join(RULES)}")
    for name, size in (("batch_size", batch_size), ("reference_batch_size", reference_batch_size)):
        _check(name, size, lambda x: 1 <= x < math.inf and x == int(x), "a whole number >= 1")
    check_settings(lr, betas, {"eps": eps})
    kappa = batch_size / reference_batch_size
    if not 0 < lr * (kappa if rule == "invariant" else math.sqrt(kappa)) < math.inf:
        raise InputError(
            f"lr is {lr}, allowed: one that is neither 0 nor infinite after scaling by the {rule} rule"
        )
    scaled_lr, *scaled_betas = (float(value) for value in scaling_rule(rule, kappa, lr, *betas))
    for i, (old, new) in enumerate(zip(betas, scaled_betas, strict=True), start=1):
        if new < 0:
            largest = math.floor(reference_batch_size / (1 - old))
            raise InputError(
                f"batch_size is {batch_size}, allowed: at most {largest}, where the {rule} rule makes "
                f"beta{i} 0 (it is {old:g} at {reference_batch_size})"
            )
    scaled_eps = eps / math.sqrt(kappa) if rule == "square-root" else eps
    return Scaled(scaled_lr, (scaled_betas[0], scaled_betas[1]), scaled_eps)


def check_settings(lr: Any, betas: Any, nonnegative: dict[str, Any], zero_lr: bool = False) -> None:
    """Refuse a setting outside its range, by `InputError`.

    Parameters
    ----------
    lr : float or Tensor of one element
        Finite, > 0.
    betas : two floats or Tensors of one element
        Each in [0, 1).
    nonnegative : dict
        Name to value: finite, >= 0.
    zero_lr : bool
        Whether `lr` may be 0 as well.
    """
    lr_is_right = (lambda x: 0 <= x < math.inf) if zero_lr else (lambda x: 0 < x < math.inf)
    _check("lr", lr, lr_is_right, f"a finite number {'>=' if zero_lr else '>'} 0")
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise InputError(f"betas is {betas}, allowed: two numbers, beta1 and beta2")
    for name, beta in zip(("beta1", "beta2"), betas, strict=True):
        _check(name, beta, lambda x: 0 <= x < 1, ">= 0 and < 1")
    for name, value in nonnegative.items():
        _check(name, value, lambda x: 0 <= x < math.inf, "a finite number >= 0")


def _check(name: str, value: Any, inside: Callable[[float], bool], allowed: str) -> None:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):  # no number, or a tensor of several
        number = math.nan
    if not inside(number):
        raise InputError(f"{name} is {value}, allowed: {allowed}")
