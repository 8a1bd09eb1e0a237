"""Everything that decides the numbers of a run, and the flags that set it."""

import argparse
from dataclasses import dataclass, fields

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, beta, count, nonnegative, number, positive, seed

SWEPT = "seed beta1 beta2"
"""Settings of which `train.sweep` takes lists, the first changing slowest."""
CORPORA = ("pydoc", "wikitext-2")
DTYPES = ("float32", "bfloat16")
PUBLISHED_SIZES = (
    "Published sizes: --n-layer 6 --n-head 8 --d-model 512 --d-head 64 --d-inner 2048 --tgt-len 128 "
    "--dropout 0.1, and --dropatt 0 --mem-len 0."
)


@dataclass(frozen=True)
class Settings:
    """Settings of one run; see `add_flags` for the meaning and range of each.

    The defaults train a small model on `pydoc` past its best validation perplexity within half a minute on one
    core.
    """

    corpus: str = "pydoc"
    max_train_windows: int = 0
    n_layer: int = 2
    n_head: int = 2
    d_model: int = 64
    d_head: int = 32
    d_inner: int = 128
    tgt_len: int = 16
    mem_len: int = 0
    dropout: float = 0.0
    dropatt: float = 0.0
    batch_size: int = 8
    micro_batch_size: int = 0
    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.0
    n_epochs: int = 16
    patience: int = 2
    evaluations_per_epoch: float = 1.0
    noise_interval: int = 0
    seed: int = 0
    shuffle: bool = True
    dtype: str = "float32"

    def model(self) -> dict[str, int | float]:
        """Arguments of `TransformerXL`, but for the size of the vocabulary."""
        names = "n_layer n_head d_model d_head d_inner dropout dropatt mem_len"
        return {name: getattr(self, name) for name in names.split()}

    def check(self, n_windows: int) -> None:
        """Refuse what no single flag can refuse alone.

        Parameters
        ----------
        n_windows : int
            Samples in the training split.

        Raises
        ------
        InputError
        """
        if not n_windows:
            raise InputError(
                f"--tgt-len is {self.tgt_len}, allowed: less than the length of the training split"
            )
        if not 1 <= self.batch_size <= n_windows:
            raise InputError(
                f"--batch-size is {self.batch_size}, allowed: 1 ... {n_windows}, the number of training windows"
            )
        if self.noise_interval and not 2 <= self.batch_size < n_windows:
            raise InputError(
                f"--batch-size is {self.batch_size}, allowed with --noise-interval: 2 ... {n_windows - 1}"
            )
        if self.mem_len and self.noise_interval:
            raise InputError(f"--noise-interval is {self.noise_interval}, allowed: 0 with --mem-len")
        if self.mem_len and self.shuffle:
            raise InputError(
                f"--mem-len is {self.mem_len}, allowed: 0 unless --no-shuffle (consecutive windows)"
            )
        if self.mem_len and self.batch_size % (self.micro_batch_size or self.batch_size):
            raise InputError(
                f"--micro-batch-size is {self.micro_batch_size}, allowed with --mem-len: a divisor of "
                f"--batch-size {self.batch_size}"
            )


def add_flags(parser: Parser, but: str = "") -> None:
    """Add one flag a field of `Settings`, of the same name, except for the fields named in `but`."""

    def add(group: argparse._ArgumentGroup, name: str, *args: object, **kwargs: object) -> None:
        if name not in but.split():
            _add(group, name, *args, **kwargs)

    share = number(float, 0, 1, open_high=True)
    corpus = parser.add_argument_group("corpus")
    model = parser.add_argument_group("model", PUBLISHED_SIZES)
    optimiser = parser.add_argument_group("optimiser")
    course = parser.add_argument_group("course of training")
    add(corpus, "corpus", "text to train on", choices=CORPORA)
    add(corpus, "max_train_windows", "train on the first so many windows only; 0: on all", number(int, 0))
    add(model, "n_layer", "layers", count)
    add(model, "n_head", "heads", count)
    add(model, "d_model", "width", count)
    add(model, "d_head", "width of a head", count)
    add(model, "d_inner", "width inside the feed-forward block", count)
    add(model, "tgt_len", "words in a window, which is one sample", count)
    add(model, "mem_len", "hidden states of earlier windows kept; needs --no-shuffle", number(int, 0))
    add(model, "dropout", "dropout of activations", share)
    add(model, "dropatt", "dropout of attention weights", share)
    add(optimiser, "lr", "learning rate, constant", positive)
    add(optimiser, "beta1", "decay of the first moment", beta)
    add(optimiser, "beta2", "decay of the second moment", beta)
    add(optimiser, "eps", "added outside the square root", nonnegative)
    add(optimiser, "eps_root", "added inside the square root", nonnegative)
    add(optimiser, "weight_decay", "decoupled weight decay, times lr", nonnegative)
    add(course, "batch_size", "windows a step; a remainder of the epoch is dropped", count)
    add(course, "micro_batch_size", "windows at a time, gradients summed; 0: all", number(int, 0))
    add(course, "n_epochs", "at most so many epochs", count)
    add(course, "patience", "stop after so many evaluations without a new best; 0: never", number(int, 0))
    add(course, "evaluations_per_epoch", "below 1: one every several epochs", positive)
    add(
        course,
        "noise_interval",
        "estimate the noise scale from every so many-th step; 0: never",
        number(int, 0),
    )
    add(course, "seed", "of initial weights, order and dropout", seed)
    add(
        course,
        "shuffle",
        "a fresh permutation of the windows every epoch; otherwise a fixed order, in which micro-batch "
        "after micro-batch continues the same parallel streams of text",
        action=argparse.BooleanOptionalAction,
    )
    add(course, "dtype", "of the matrix products; weights and moments stay float32", choices=DTYPES)


def from_flags(arguments: argparse.Namespace) -> Settings:
    """Collect the settings that `add_flags` has read; of a list the first value."""
    values = {field.name: getattr(arguments, field.name) for field in fields(Settings)}
    return Settings(**{name: v[0] if isinstance(v, list) else v for name, v in values.items()})


def _add(group: argparse._ArgumentGroup, name: str, help: str, type: object = None, **kwargs: object) -> None:
    if type is not None:
        kwargs |= {"type": type, "metavar": name.rsplit("_", 1)[-1].upper()}
    default = Settings.__dataclass_fields__[name].default
    group.add_argument("--" + name.replace("_", "-"), default=default, help=help, **kwargs)
