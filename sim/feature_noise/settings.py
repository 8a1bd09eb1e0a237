"""What defines a run of Adam or AdamW on the two-layer CNN: one dataclass, one flag a field."""

import argparse
import math
from dataclasses import dataclass, fields
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import beta, count, nonnegative, number, positive, seed

SMALLEST = {"eps": 1e-130, "eps_root": 1e-260}
"""Beside them gradients whose squares leave float64 are nothing."""


@dataclass(frozen=True)
class Settings:
    """One run; the defaults are the published study, batch 2, AdamW.

    Attributes
    ----------
    n_samples, patch_length, n_noise : int
        n, d, s of the data model (`sim.feature_noise.data.make_samples`).
    noise_std, feature_noise : float
        sigma_p, alpha.
    supports : {"overlapping", "disjoint"}
    n_filters, q : int
        m filters a class; power of the activation.
    init_std : float
        sigma_0.
    optimizer : {"adam", "adamw"}
        L2 in the gradient, or decoupled decay.
    lr, weight_decay, beta1, beta2, eps, eps_root : float
        `eps` outside the root, `eps_root` inside; at least one positive.
    bias_correction : bool
    batch_size : int
        Divides n_samples.
    replacement : bool
        Whether a batch is drawn with replacement; if not, every epoch is a fresh permutation.
    n_epochs : int
        Length of the run.
    n_steps : int
        If not 0, the length in steps instead.
    n_test : int
        Test samples; 0: none.
    n_records : int
        Measurements at steps spaced evenly in their logarithm, besides step 0.
    seed : int
        Of data, weights and batches.
    """

    n_samples: int = 200
    patch_length: int = 1000
    n_noise: int = 100
    noise_std: float = 0.1
    feature_noise: float = 0.2
    supports: str = "overlapping"
    n_filters: int = 20
    q: int = 3
    init_std: float = 0.01
    optimizer: str = "adamw"
    lr: float = 5e-5
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    bias_correction: bool = True
    batch_size: int = 2
    replacement: bool = False
    n_epochs: int = 10_000
    n_steps: int = 0
    n_test: int = 10_000
    n_records: int = 40
    seed: int = 0

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


OPTIMIZERS = ("adam", "adamw")
SUPPORTS = ("overlapping", "disjoint")

_FLAGS = {
    "n_samples": (count, "training samples n"),
    "patch_length": (number(int, 2), "length d of a patch"),
    "n_noise": (count, "non-zero noise coordinates s of a patch"),
    "noise_std": (nonnegative, "standard deviation sigma_p of the noise"),
    "feature_noise": (number(float), "alpha: -alpha y is the first coordinate of the noise patch"),
    "n_filters": (count, "filters m of each class"),
    "q": (number(int, 3, 20), "power of the activation max(z, 0)^q"),
    "init_std": (nonnegative, "standard deviation sigma_0 of the first weights"),
    "lr": (positive, "learning rate"),
    "weight_decay": (nonnegative, "lambda: in the gradient (adam) or decoupled (adamw)"),
    "beta1": (beta, "decay rate of the first moment, [0, 1)"),
    "beta2": (beta, "decay rate of the second moment, [0, 1)"),
    "eps": (nonnegative, "outside the root"),
    "eps_root": (nonnegative, "inside the root"),
    "batch_size": (count, "samples of a batch; divides --n-samples"),
    "n_epochs": (count, "length of the run"),
    "n_steps": (number(int, 0), "if not 0, length of the run in steps instead"),
    "n_test": (number(int, 0), "test samples"),
    "n_records": (count, "measurements, at steps spaced evenly in their logarithm"),
    "seed": (seed, "of data, weights and batches"),
}


def add_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add one flag a field of `Settings`; `defaults` replace its own."""
    for field in fields(Settings):
        name, default = "--" + field.name.replace("_", "-"), defaults.get(field.name, field.default)
        if field.name in ("bias_correction", "replacement"):
            text = "of the moments" if field.name == "bias_correction" else "draw batches with replacement"
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif field.name in ("optimizer", "supports"):
            choices = OPTIMIZERS if field.name == "optimizer" else SUPPORTS
            parser.add_argument(name, choices=choices, default=default, help="which")
        else:
            kind, text = _FLAGS[field.name]
            parser.add_argument(name, type=kind, default=default, help=text)


def from_flags(args: argparse.Namespace) -> Settings:
    """Return the settings that the flags of `add_flags` ask for."""
    return Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
