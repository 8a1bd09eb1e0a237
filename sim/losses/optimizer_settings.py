"""The settings that name an optimiser of the library's registry, shared by the studies of Corr."""

from dataclasses import dataclass
from typing import Any

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, settings_of
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from common.optimizer_flag import read_optimizer
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, Number, setting, used

OF_MICRO_BATCHES = {
    "optimizer": tuple(name for name in optimizer_names() if make_rule(name).of_micro_batches)
}
"""The condition that the optimiser averages over micro-batches."""


def having(name: str) -> dict[str, tuple[str, ...]]:
    """Return the condition that the optimiser has a setting of that name."""
    return {"optimizer": tuple(one for one in optimizer_names() if name in settings_of(one))}


OWN_DEFAULT = "; default: the optimizer's own"


def _of_optimizer(name: str, help: str, kind: Number) -> Any:
    return setting(None, help + OWN_DEFAULT, kind, group="optimizer", only_with=having(name))


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimiser with exponential averages; a setting that is None has the optimiser's own default."""

    batch_size: int = setting(16, "size of a batch, a divisor of N", COUNT, unit="samples", group="optimizer")
    optimizer: str = setting(
        "adam",
        "with exponential averages; help: lists each with its settings",
        read_optimizer,
        choices=optimizer_names(),
        group="optimizer",
    )
    beta1: float | None = _of_optimizer("beta1", "decay rate of the first moment, momentum of SGD", BETA)
    beta2: float | None = _of_optimizer("beta2", "decay rate of the second moment, of Lion's average", BETA)
    beta3: float | None = _of_optimizer("beta3", "decay rate of AdEMAMix's slow average", BETA)
    eps_root: float | None = _of_optimizer("eps_root", "added inside the square root", NONNEGATIVE)
    eps: float | None = _of_optimizer("eps", "added to the square root", NONNEGATIVE)
    delta: float | None = _of_optimizer("delta", "the smooth sign of x is x/sqrt(x^2 + delta)", POSITIVE)
    alpha: float | None = _of_optimizer("alpha", "weight of AdEMAMix's slow average", NONNEGATIVE)
    power: float | None = _of_optimizer("power", "p, of the gradients in the second moment", Number(float, 1))
    weight_decay: float | None = _of_optimizer("weight_decay", "decoupled", NONNEGATIVE)
    micro_batch_size: int | None = setting(
        None,
        "size of a micro-batch, a divisor of the batch size",
        COUNT,
        unit="samples",
        group="optimizer",
        only_with=OF_MICRO_BATCHES,
    )


def rule_of(settings: OptimizerSettings) -> UpdateRule:
    """Make the update rule that the settings name.

    Raises
    ------
    InputError
        If it averages over micro-batches, and their size is not given or does not divide the batch.
    """
    values = {name: getattr(settings, name) for name in settings_of(settings.optimizer)}
    rule = make_rule(settings.optimizer, {name: value for name, value in values.items() if value is not None})
    micro, batch = settings.micro_batch_size, settings.batch_size
    if rule.of_micro_batches and (micro is None or batch % micro):
        raise InputError(f"--micro-batch-size is {micro}, allowed: a divisor of --batch-size {batch}")
    return rule


def used_by(settings: OptimizerSettings) -> dict[str, Any]:
    """Return `common.settings.used`, with the optimiser's own defaults where it used them."""
    row = used(settings)
    for name, default in settings_of(settings.optimizer).items():
        if name in row and row["optimizer"] is not None and row[name] is None:
            row[name] = default
    return row


OPTIMIZER_COLUMNS = (
    "optimizer",
    "beta1",
    "beta2",
    "beta3",
    "eps_root",
    "eps",
    "delta",
    "alpha",
    "power",
    "weight_decay",
    "micro_batch_size",
)
"""Columns of a table that say what the optimiser was; those that it does not have are empty."""
