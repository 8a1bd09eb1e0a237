"""Everything that decides the numbers of a run."""

from dataclasses import dataclass
from typing import Any

from adam_minibatch_noise.errors import InputError
from common import names
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, SHARE, WHOLE, setting

SWEPT = ("seed", "beta1", "beta2")
"""Settings of which `train.sweep` takes lists, the first changing slowest."""
DTYPES = ("float32", "bfloat16")
PUBLISHED_SIZES = (
    "Published sizes: --n-layer 6 --n-head 8 --d-model 512 --d-head 64 --d-inner 2048 --tgt-len 128 "
    "--dropout 0.1, and --dropatt 0 --mem-len 0."
)


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    The defaults train a small model on `pydoc` past its best validation perplexity within half a minute on one
    core.
    """

    corpus: str = setting("pydoc", "text to train on", choices=tuple(names.CORPORA), group="corpus")
    max_train_windows: int = setting(
        0, "train on the first so many windows only; 0: on all", WHOLE, unit="windows", group="corpus"
    )
    n_layer: int = setting(2, "layers", COUNT, group="model")
    n_head: int = setting(2, "heads", COUNT, group="model")
    d_model: int = setting(64, "width", COUNT, group="model")
    d_head: int = setting(32, "width of a head", COUNT, group="model")
    d_inner: int = setting(128, "width inside the feed-forward block", COUNT, group="model")
    tgt_len: int = setting(16, "length of a window, which is one sample", COUNT, unit="words", group="model")
    mem_len: int = setting(
        0, "hidden states of earlier windows kept; needs --no-shuffle", WHOLE, unit="words", group="model"
    )
    dropout: float = setting(0.0, "dropout of activations", SHARE, group="model")
    dropatt: float = setting(0.0, "dropout of attention weights", SHARE, group="model")
    batch_size: int = setting(
        8, "windows a step; a remainder of the epoch is dropped", COUNT, unit="windows", group="run"
    )
    micro_batch_size: int = setting(
        0, "windows at a time, gradients summed; 0: all", WHOLE, unit="windows", group="run"
    )
    lr: float = setting(2e-3, "learning rate, constant", POSITIVE, group="optimizer")
    beta1: float = setting(0.9, "decay rate of the first moment", BETA, group="optimizer")
    beta2: float = setting(0.999, "decay rate of the second moment", BETA, group="optimizer")
    eps: float = setting(1e-8, "added outside the square root", NONNEGATIVE, group="optimizer")
    eps_root: float = setting(0.0, "added inside the square root", NONNEGATIVE, group="optimizer")
    weight_decay: float = setting(0.0, "decoupled weight decay, times lr", NONNEGATIVE, group="optimizer")
    n_epochs: int = setting(16, "at most so many epochs", COUNT, unit="epochs", group="run")
    patience: int = setting(
        2,
        "stop after so many evaluations without a new best; 0: never",
        WHOLE,
        unit="evaluations",
        group="run",
    )
    evaluations_per_epoch: float = setting(1.0, "below 1: one every several epochs", POSITIVE, group="run")
    noise_interval: int = setting(
        0, "estimate the noise scale from every so many-th step; 0: never", WHOLE, unit="steps", group="run"
    )
    seed: int = setting(0, "of initial weights, order and dropout", SEED, group="run")
    shuffle: bool = setting(
        True,
        "a fresh permutation of the windows every epoch; otherwise a fixed order, in which micro-batch "
        "after micro-batch continues the same parallel streams of text",
        group="run",
    )
    dtype: str = setting(
        "float32", "of the matrix products; weights and moments stay float32", choices=DTYPES, group="run"
    )

    def model(self) -> dict[str, Any]:
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
