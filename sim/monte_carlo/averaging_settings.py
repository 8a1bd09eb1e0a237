"""The settings of an average over batch orders, and how many random orders are enough to judge a formula."""

from dataclasses import dataclass

from common.settings import SEED, Number, setting

METHODS = ("montecarlo", "enumerate")
FEWEST_PERMUTATIONS = 100
"""With fewer random orders 4 standard errors are no rule: estimated from the same few orders, they are too small too
often. With 4 orders a true formula was off by more in up to 20 of 100 runs, with 100 in 1 of 1000 or fewer."""
TOO_FEW = f"too few orders to call a formula violated, which takes --n-permutations {FEWEST_PERMUTATIONS}"
N_STDERR = 4.0
"""Accepted distance in standard errors, fixed before any run."""
_RANDOM = {"method": ("montecarlo",)}


@dataclass(frozen=True)
class AveragingSettings:
    """All orders, or random ones."""

    method: str = setting("montecarlo", "how to average over orders", choices=METHODS, group="measurement")
    n_permutations: int = setting(
        10_000,
        "how many random orders",
        Number(int, 2),
        unit="permutations",
        group="measurement",
        only_with=_RANDOM,
    )
    seed: int = setting(0, "seed of the random orders", SEED, group="measurement", only_with=_RANDOM)
