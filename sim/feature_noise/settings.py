"""What defines a run of Adam, AdamW or another optimiser on the two-layer CNN."""

import math
from dataclasses import dataclass

from adam_minibatch_noise.errors import InputError
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, WHOLE, Number, names, setting

OPTIMIZERS = ("adam", "adamw", "invariant-adamw", "sgd-momentum", "signum-smooth")
ADAM_LIKE = OPTIMIZERS[:3]
WITH_A_ROOT = tuple(name for name in OPTIMIZERS if name != "sgd-momentum")
ACTIVATIONS = ("power", "silu")
SUPPORTS = ("overlapping", "disjoint")
MIN_POWER = 2
"""Smallest power q whose activation has a continuous derivative."""
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
    activation: str = setting(
        "power", "power: max(z, 0)^q; silu: z / (1 + exp(-z))", choices=ACTIVATIONS, group="network"
    )
    q: int = setting(
        3,
        "power of the activation",
        Number(int, MIN_POWER, 20),
        group="network",
        only_with={"activation": ("power",)},
    )
    init_std: float = setting(
        0.01, "standard deviation sigma_0 of the first weights", NONNEGATIVE, group="network"
    )
    optimizer: str = setting(
        "adamw",
        "adam, sgd-momentum: weight decay as L2 in the gradient; the others: decoupled; invariant-adamw: AdamW, which "
        "averages the squares of micro-batch gradients; signum-smooth: the sign of the averaged gradient m, as "
        "m / (sqrt(m^2 + eps_root) + eps)",
        choices=OPTIMIZERS,
        group="optimizer",
    )
    lr: float = setting(5e-5, "learning rate, constant", POSITIVE, group="optimizer")
    weight_decay: float = setting(0.01, "lambda", NONNEGATIVE, group="optimizer")
    beta1: float = setting(0.9, "decay rate of the first moment", BETA, group="optimizer")
    beta2: float = setting(
        0.999, "decay rate of the second moment", BETA, group="optimizer", only_with={"optimizer": ADAM_LIKE}
    )
    eps: float = setting(
        1e-8,
        "added outside the square root",
        NONNEGATIVE,
        group="optimizer",
        only_with={"optimizer": WITH_A_ROOT},
    )
    eps_root: float = setting(
        0.0,
        "added inside the square root",
        NONNEGATIVE,
        group="optimizer",
        only_with={"optimizer": WITH_A_ROOT},
    )
    bias_correction: bool = setting(
        True, "correct the bias of the moments", group="optimizer", only_with={"optimizer": WITH_A_ROOT}
    )
    micro_batch_size: int = setting(
        1,
        "samples whose mean gradient is squared; divides --batch-size",
        COUNT,
        unit="samples",
        group="optimizer",
        only_with={"optimizer": ("invariant-adamw",)},
    )
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
        if self.optimizer == "invariant-adamw" and self.batch_size % self.micro_batch_size:
            raise InputError(
                f"micro_batch_size is {self.micro_batch_size}, allowed: a divisor of batch_size = {self.batch_size}"
            )
        if self.eps == self.eps_root == 0 and self.optimizer in WITH_A_ROOT:
            raise InputError("eps and eps_root are both 0, allowed: one positive, or Adam divides by zero")
        for name, smallest in SMALLEST.items():
            if 0 < getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}, allowed: 0 or >= {smallest:g}")
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
        return self.weight_decay if self.optimizer in ("adam", "sgd-momentum") else 0.0

    @property
    def decay(self) -> float:
        """Factor by which decoupled decay shrinks the weights at a step."""
        return 1.0 if self.optimizer in ("adam", "sgd-momentum") else 1 - self.lr * self.weight_decay

    @property
    def power(self) -> int:
        """Power of the activation, as the kernels take it."""
        return self.q if self.activation == "power" else 0

    @property
    def rate(self) -> float:
        """Factor of the average gradient, which SGD has without 1 - beta1: m <- beta1 m + g."""
        return self.lr / (1 - self.beta1) if self.optimizer == "sgd-momentum" else self.lr

    @property
    def corrects_bias(self) -> bool:
        """Whether the moments are divided by 1 - beta^t."""
        return self.bias_correction and self.optimizer != "sgd-momentum"

    @property
    def n_dense(self) -> int:
        """Number of first steps that change every row: all with L2 or no squares, else until bias is over."""
        if self.l2 > 0 or self.optimizer not in ADAM_LIKE:
            return 2**62
        slowest = max(self.beta1, self.beta2)
        return math.ceil(54 * math.log(2) / -math.log(slowest)) if self.bias_correction and slowest > 0 else 0
