"""What defines a run of Adam or AdamW on the two-layer CNN."""

import math
from dataclasses import dataclass

from adam_minibatch_noise.errors import InputError
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, WHOLE, Number, names, setting

OPTIMIZERS = ("adam", "adamw")
SUPPORTS = ("overlapping", "disjoint")
SMALLEST = {"eps": 1e-130, "eps_root": 1e-260}
"""Beside them gradients whose squares leave float64 are nothing."""


@dataclass(frozen=True)
class Settings:
    """One run; the defaults are the published study, batch 2, AdamW."""

    n_samples: int = setting(200, "training samples n of the data model", COUNT, unit="samples", group="data")
    patch_length: int = setting(1000, "length d of a patch", Number(int, 2), unit="coordinates", group="data")
    n_noise: int = setting(100, "non-zero noise coordinates s of a patch", COUNT, group="data")
    noise_std: float = setting(0.1, "standard deviation sigma_p of the noise", NONNEGATIVE, group="data")
    feature_noise: float = setting(
        0.2, "alpha: -alpha y is the first coordinate of the noise patch", Number(float), group="data"
    )
    supports: str = setting(
        "overlapping", "whether samples share noise coordinates", choices=SUPPORTS, group="data"
    )
    n_filters: int = setting(20, "filters m of each class", COUNT, group="network")
    q: int = setting(3, "power of the activation max(z, 0)^q", Number(int, 3, 20), group="network")
    init_std: float = setting(
        0.01, "standard deviation sigma_0 of the first weights", NONNEGATIVE, group="network"
    )
    optimizer: str = setting(
        "adamw",
        "adam: weight decay as L2 in the gradient; adamw: decoupled",
        choices=OPTIMIZERS,
        group="optimizer",
    )
    lr: float = setting(5e-5, "learning rate, constant", POSITIVE, group="optimizer")
    weight_decay: float = setting(0.01, "lambda", NONNEGATIVE, group="optimizer")
    beta1: float = setting(0.9, "decay rate of the first moment", BETA, group="optimizer")
    beta2: float = setting(0.999, "decay rate of the second moment", BETA, group="optimizer")
    eps: float = setting(1e-8, "added outside the square root", NONNEGATIVE, group="optimizer")
    eps_root: float = setting(0.0, "added inside the square root", NONNEGATIVE, group="optimizer")
    bias_correction: bool = setting(True, "correct the bias of the moments", group="optimizer")
    batch_size: int = setting(
        2, "samples of a batch; divides --n-samples", COUNT, unit="samples", group="run"
    )
    replacement: bool = setting(
        False, "draw batches with replacement; otherwise every epoch is a fresh permutation", group="run"
    )
    n_epochs: int = setting(
        10_000, "length of the run", COUNT, unit="epochs", group="run", only_with={"n_steps": (0,)}
    )
    n_steps: int = setting(
        0, "length of the run instead; 0: as --n-epochs says", WHOLE, unit="steps", group="run"
    )
    n_test: int = setting(10_000, "test samples; 0: none", WHOLE, unit="samples", group="run")
    n_records: int = setting(
        40, "measurements, at steps spaced evenly in their logarithm, besides step 0", COUNT, group="run"
    )
    seed: int = setting(0, "of data, weights and batches", SEED, group="run")

    @property
    def run(self) -> "Settings":
        """Those of a run alone, where a program has more."""
        return Settings(**{name: getattr(self, name) for name in names(Settings)})

    def check(self) -> None:
        """Raise InputError naming the first setting that cannot be used."""
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}, allowed: >= 1 (this study halves n_samples)")
        if self.n_samples % self.batch_size:
            raise InputError(
                f"batch_size is {self.batch_size}, allowed: a divisor of n_samples = {self.n_samples}"
            )
        if self.eps == self.eps_root == 0:
            raise InputError("eps and eps_root are both 0, allowed: one positive, or Adam divides by zero")
        for name, smallest in SMALLEST.items():
            if 0 < getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}, allowed: 0 or >= {smallest:g}")
        from sim.losses.cnn import MIN_POWER

        if self.q < MIN_POWER:
            raise InputError(f"q is {self.q}, allowed: a whole number >= {MIN_POWER}")

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.n_steps or self.n_epochs * self.n_batches

    @property
    def n_batches(self) -> int:
        """Steps of an epoch."""
        return self.n_samples // self.batch_size

    @property
    def l2(self) -> float:
        """Factor of the weights in the gradient."""
        return self.weight_decay if self.optimizer == "adam" else 0.0

    @property
    def decay(self) -> float:
        """Factor by which AdamW shrinks the weights at a step."""
        return 1 - self.lr * self.weight_decay if self.optimizer == "adamw" else 1.0

    @property
    def n_dense(self) -> int:
        """Number of first steps that change every row: all with L2, else until 1 - beta2^t is 1 to rounding."""
        if self.l2 > 0:
            return 2**62
        slowest = max(self.beta1, self.beta2)
        return math.ceil(54 * math.log(2) / -math.log(slowest)) if self.bias_correction and slowest > 0 else 0
