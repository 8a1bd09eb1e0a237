"""Everything that decides the numbers of one training on images."""

from dataclasses import asdict, dataclass
from typing import Any

from adam_minibatch_noise.errors import InputError
from common import names
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, WHOLE, setting

OPTIMIZERS = ("adam", "adamw", "invariant-adamw")
SCALINGS = ("none", "invariant", "square-root")
LISTS = ("batch_size", "lr", "weight_decay", "seed")
"""Settings that a study takes lists of: it trains every combination, the last running fastest."""


@dataclass(frozen=True)
class Settings:
    """Settings of one training.

    The defaults train a small network on the digits within seconds on one core.
    """

    dataset: str = setting(
        "digits",
        "images to train on; cifar10-jpeg: a JPEG copy of CIFAR-10",
        choices=tuple(names.DATASETS),
        group="images",
    )
    split_seed: int = setting(0, "decides which images are held out", SEED, group="images")
    max_train_images: int = setting(
        0, "train on the first so many images only; 0: on all", WHOLE, unit="images", group="images"
    )
    augment: bool = setting(
        False, "random crops of the image with 4 pixels of margin, and reflections", group="images"
    )
    model: str = setting("small-cnn", "network", choices=tuple(names.NETWORKS), group="model")
    norm: str = setting(
        "layer", "normalisation after each convolution", choices=tuple(names.NORMS), group="model"
    )
    width: int = setting(
        0, "channels of the first layer; 0: as published", WHOLE, unit="channels", group="model"
    )
    optimizer: str = setting(
        "adamw",
        "adam: weight_decay times the weights is part of the gradient; adamw: decoupled; invariant-adamw: adamw "
        "that squares the gradients of micro-batches one by one",
        choices=OPTIMIZERS,
        group="optimizer",
    )
    lr: float = setting(1e-3, "learning rate, constant", POSITIVE, group="optimizer")
    beta1: float = setting(0.9, "decay rate of the first moment", BETA, group="optimizer")
    beta2: float = setting(0.999, "decay rate of the second moment", BETA, group="optimizer")
    eps: float = setting(1e-8, "added outside the square root", NONNEGATIVE, group="optimizer")
    weight_decay: float = setting(0.0, "lambda", NONNEGATIVE, group="optimizer")
    scaling: str = setting(
        "none",
        "rule that brings lr, betas and eps from --reference-batch-size to the batch size",
        choices=SCALINGS,
        group="optimizer",
    )
    reference_batch_size: int = setting(
        0,
        "batch size at which lr, betas and eps are as given; 0: none, without --scaling",
        WHOLE,
        unit="images",
        group="optimizer",
        only_with={"scaling": SCALINGS[1:]},
    )
    batch_size: int = setting(
        64, "images a step; a remainder of the epoch is dropped", COUNT, unit="images", group="run"
    )
    micro_batch_size: int = setting(0, "images at a time; 0: all", WHOLE, unit="images", group="run")
    n_epochs: int = setting(
        20, "length of the run", COUNT, unit="epochs", group="run", only_with={"n_steps": (0,)}
    )
    n_steps: int = setting(
        0, "length of the run instead; 0: as --n-epochs says", WHOLE, unit="steps", group="run"
    )
    evaluate_every: int = setting(1, "from one row to the next", COUNT, unit="epochs", group="run")
    seed: int = setting(0, "of initial weights, order and augmentation", SEED, group="run")
    dtype: str = setting(
        "float32",
        "of the products; weights, moments stay float32",
        choices=("float32", "bfloat16"),
        group="run",
    )
    channels_last: bool = setting(
        False, "keep the channels of a pixel together in memory: for a GPU", group="run"
    )

    def check(self, n_images: int) -> None:
        """Refuse what no single flag can refuse alone.

        Parameters
        ----------
        n_images : int
            In the training split.

        Raises
        ------
        InputError
        """
        if self.batch_size > n_images:
            raise InputError(
                f"--batch-size is {self.batch_size}, allowed: 1 ... {n_images}, the number of training images"
            )
        if self.scaling != "none" and not self.reference_batch_size:
            raise InputError("--reference-batch-size is 0, allowed with --scaling: a whole number >= 1")
        if self.optimizer == "invariant-adamw" and self.batch_size % (
            self.micro_batch_size or self.batch_size
        ):
            raise InputError(
                f"--micro-batch-size is {self.micro_batch_size}, allowed with invariant-adamw: a divisor of "
                f"--batch-size {self.batch_size}"
            )

    def count_steps(self, n_images: int) -> int:
        """Return the number of steps, for so many training images."""
        return self.n_steps or self.n_epochs * (n_images // self.batch_size)


def as_study(cells: list[Settings]) -> dict[str, Any]:
    """Put the settings of a study back into one mapping: those of `LISTS` as lists."""
    lists = {name: list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in LISTS}
    return asdict(cells[0]) | lists
