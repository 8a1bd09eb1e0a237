"""Everything that decides the numbers of one training on images, and the flags that set it and list its variants."""

import argparse
import itertools
from dataclasses import asdict, dataclass, fields
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, beta, count, nonnegative, number, positive, seed

DATASETS = ("digits", "cifar10", "cifar10-jpeg")
MODELS = ("small-cnn", "resnet18", "vgg16")
OPTIMIZERS = ("adam", "adamw", "invariant-adamw")
SCALINGS = ("none", "invariant", "square-root")
LISTS = ("batch_size", "lr", "weight_decay", "seed")
"""Settings that a study takes lists of: it trains every combination, the last running fastest."""


@dataclass(frozen=True)
class Settings:
    """Settings of one training; see `add_flags` for the meaning and range of each.

    The defaults train a small network on the digits within seconds on one core.
    """

    dataset: str = "digits"
    split_seed: int = 0
    max_train_images: int = 0
    augment: bool = False
    model: str = "small-cnn"
    norm: str = "layer"
    width: int = 0
    optimizer: str = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    scaling: str = "none"
    reference_batch_size: int = 0
    batch_size: int = 64
    micro_batch_size: int = 0
    n_epochs: int = 20
    n_steps: int = 0
    evaluate_every: int = 1
    seed: int = 0
    dtype: str = "float32"
    channels_last: bool = False

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


def add_flags(parser: Parser) -> None:
    """Add one flag a field of `Settings`, of the same name; those of `LISTS` take several values."""
    data = parser.add_argument_group("images")
    model = parser.add_argument_group("model")
    optimiser = parser.add_argument_group("optimiser")
    course = parser.add_argument_group("course of training")
    _add(data, "dataset", "images to train on; cifar10-jpeg: a JPEG copy of CIFAR-10", choices=DATASETS)
    _add(data, "split_seed", "decides which images are held out", seed)
    _add(data, "max_train_images", "train on the first so many images only; 0: on all", number(int, 0))
    _add(data, "augment", "random crops of the image with 4 pixels of margin, and reflections", bool)
    _add(model, "model", "network", choices=MODELS)
    _add(model, "norm", "normalisation after each convolution", choices=("batch", "layer", "none"))
    _add(model, "width", "channels of the first layer; 0: as published", number(int, 0))
    _add(
        optimiser,
        "optimizer",
        "adam: weight_decay times the weights is part of the gradient; adamw: decoupled; invariant-adamw: adamw "
        "that squares the gradients of micro-batches one by one",
        choices=OPTIMIZERS,
    )
    _add(optimiser, "lr", "learning rate, constant", positive)
    _add(optimiser, "beta1", "decay of the first moment", beta)
    _add(optimiser, "beta2", "decay of the second moment", beta)
    _add(optimiser, "eps", "added outside the square root", nonnegative)
    _add(optimiser, "weight_decay", "lambda", nonnegative)
    _add(
        optimiser,
        "scaling",
        "rule that brings lr, betas and eps from --reference-batch-size to the batch size",
        choices=SCALINGS,
    )
    _add(optimiser, "reference_batch_size", "images; 0: none, without --scaling", number(int, 0))
    _add(course, "batch_size", "images a step; a remainder of the epoch is dropped", count)
    _add(course, "micro_batch_size", "images at a time; 0: all", number(int, 0))
    _add(course, "n_epochs", "so many epochs", count)
    _add(course, "n_steps", "so many steps instead; 0: as --n-epochs says", number(int, 0))
    _add(course, "evaluate_every", "epochs from one row to the next", count)
    _add(course, "seed", "of initial weights, order and augmentation", seed)
    _add(course, "dtype", "of the products; weights, moments stay float32", choices=("float32", "bfloat16"))
    _add(course, "channels_last", "keep the channels of a pixel together in memory: for a GPU", bool)


def cells(arguments: argparse.Namespace) -> list[Settings]:
    """Make the settings of every training of a study, in its order.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of `add_flags`.

    Returns
    -------
    list of Settings

    Raises
    ------
    InputError
        A value that a list holds twice.
    """
    names = [field.name for field in fields(Settings) if field.name not in LISTS]
    shared = {name: getattr(arguments, name) for name in names}
    lists = {name: getattr(arguments, name) for name in LISTS}
    for name, values in lists.items():
        if len(set(values)) < len(values):
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} is {' '.join(map(str, values))}, allowed: each value once")
    return [
        Settings(**shared, **dict(zip(lists, values, strict=True)))
        for values in itertools.product(*lists.values())
    ]


def study(cells: list[Settings]) -> dict[str, Any]:
    """Put the settings of a study back into one mapping: those of `LISTS` as lists."""
    lists = {name: list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in LISTS}
    return asdict(cells[0]) | lists


def _add(group: argparse._ArgumentGroup, name: str, help: str, type: object = None, **kwargs: object) -> None:
    default = Settings.__dataclass_fields__[name].default
    if type is bool:
        kwargs |= {"action": argparse.BooleanOptionalAction}
    elif type is not None:
        kwargs |= {"type": type, "metavar": name.rsplit("_", 1)[-1].upper()}
    if name in LISTS:
        default, kwargs = [default], kwargs | {"nargs": "+"}
    group.add_argument("--" + name.replace("_", "-"), default=default, help=help, **kwargs)
