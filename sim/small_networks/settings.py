"""What defines a run: the task, the optimiser, and when the run ends."""

from dataclasses import dataclass

from adam_minibatch_noise.errors import InputError
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, WHOLE, Number, setting

TASKS = ("digits", "characters", "words", "regression", "cnn")
OPTIMIZERS = ("adam", "adamw", "invariant-adamw", "rmsprop", "sgd-momentum")
EMBEDDING_KINDS = ("trained", "frozen", "one-hot")
DEFAULT_SAMPLES = {"digits": 1024, "characters": 4096, "words": 4096, "regression": 128, "cnn": 256}
"""Training samples of each task."""
_SECOND_MOMENT = {"optimizer": ("adam", "adamw", "invariant-adamw", "rmsprop")}
LARGEST_MICRO_BATCH = 64


@dataclass(frozen=True)
class Settings:
    """One run."""

    task: str = setting("digits", "what is learnt", choices=TASKS, group="task")
    label_noise: float = setting(
        0.0,
        "share of the training labels that are wrong",
        Number(float, 0, 1),
        group="task",
        only_with={"task": ("digits", "cnn")},
    )
    embedding: str = setting(
        "trained",
        "words: learnt vectors, fixed ones, or each a unit vector",
        choices=EMBEDDING_KINDS,
        group="task",
        only_with={"task": ("characters", "words")},
    )
    n_samples: int = setting(
        0, "training samples; 0: as the task has them", WHOLE, unit="samples", group="task"
    )
    optimizer: str = setting(
        "adam", "adam: weight decay as L2; the others: decoupled", choices=OPTIMIZERS, group="optimizer"
    )
    batch_size: int = setting(64, "samples a step; 0: all", WHOLE, unit="samples", group="optimizer")
    micro_batch_size: int = setting(
        1,
        "samples whose mean gradient is squared",
        Number(int, 1, LARGEST_MICRO_BATCH),
        unit="samples",
        group="optimizer",
        only_with={"optimizer": ("invariant-adamw",)},
    )
    lr: float = setting(1e-3, "learning rate, constant", POSITIVE, group="optimizer")
    beta1: float = setting(
        0.9,
        "decay rate of the first moment, momentum of SGD",
        BETA,
        group="optimizer",
        only_with={"optimizer": ("adam", "adamw", "invariant-adamw", "sgd-momentum")},
    )
    beta2: float = setting(
        0.999, "decay rate of the second moment", BETA, group="optimizer", only_with=_SECOND_MOMENT
    )
    eps: float = setting(
        1e-8, "added outside the root", POSITIVE, group="optimizer", only_with=_SECOND_MOMENT
    )
    weight_decay: float = setting(0.0, "lambda", NONNEGATIVE, group="optimizer")
    replacement: bool = setting(
        False, "draw batches with replacement; otherwise every epoch is a fresh permutation", group="run"
    )
    max_epochs: int = setting(2000, "longest run", COUNT, unit="epochs", group="run")
    patience: float = setting(
        0.5,
        "a run ends this many times as far behind its best evaluation as that is from the start",
        POSITIVE,
        group="run",
    )
    rho: float = setting(
        0.003, "length of the step along the sign of the gradient, for the sharpness", POSITIVE, group="run"
    )
    seed: int = setting(0, "of samples, labels, weights and order", SEED, group="run")

    def resolved(self) -> "Settings":
        """Return the settings with the numbers of samples that 0 stands for, checked.

        Raises
        ------
        InputError
            A batch or micro-batch does not fit.
        """
        from dataclasses import replace

        n = self.n_samples or DEFAULT_SAMPLES[self.task]
        b = self.batch_size or n
        if b > n or n % b:
            raise InputError(f"batch_size is {b}, allowed: a divisor of n_samples = {n}")
        if self.optimizer == "invariant-adamw" and b % self.micro_batch_size:
            raise InputError(
                f"micro_batch_size is {self.micro_batch_size}, allowed: a divisor of batch_size = {b}"
            )
        return replace(self, n_samples=n, batch_size=b)
