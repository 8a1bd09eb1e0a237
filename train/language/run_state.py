"""Where a run of training stands, and the row that each evaluation adds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from train.language.settings import Settings

if TYPE_CHECKING:
    import torch

REPEATED = "corpus max_train_windows batch_size lr beta1 beta2 eps eps_root weight_decay shuffle seed"
"""Settings that every row repeats."""


@dataclass
class RunState:
    """State of a run beside model, optimiser and random numbers; a checkpoint holds its fields.

    Attributes
    ----------
    step : int
        Steps taken.
    nll, n_words : Tensor of float64 or float, int
        Cross-entropy in nats of the words trained on since the last evaluation, and how many they are.
    memory : Tensor or None
        Of the model, see `TransformerXL.hidden`.
    best_loss, best_step, best_values : float, int, Tensor or None
        Least validation loss so far in nats a word, the step it was found at, and the parameters there.
    n_since_best : int
        Evaluations since then.
    rows : list of dict
        One an evaluation.
    seconds, evaluation_seconds : float
        Wall time of the run, and of its evaluations.
    end : {"", "diverged", "patience", "n_epochs"}
        Why the run is over, if it is.
    """

    step: int = 0
    nll: "torch.Tensor | float" = 0.0
    n_words: int = 0
    memory: "torch.Tensor | None" = None
    best_loss: float = math.inf
    best_step: int = 0
    best_values: "torch.Tensor | None" = None
    n_since_best: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    end: str = ""

    def add_step(self, nll: "torch.Tensor", n_words: int) -> None:
        """Count a step that trained on `n_words` words with the summed cross-entropy `nll`."""
        self.step, self.nll, self.n_words = self.step + 1, self.nll + nll, self.n_words + n_words

    def record(
        self, valid_loss: float, settings: Settings, n_batches: int, noise: Mapping[str, float] | None = None
    ) -> bool:
        """Add the row of an evaluation and decide whether it was the last.

        Parameters
        ----------
        valid_loss : float
            Nats a word.
        settings : Settings
        n_batches : int
            Steps in an epoch.
        noise : mapping, optional
            Further columns.

        Returns
        -------
        bool
            Whether it is the best so far.
        """
        train_loss = float(self.nll) / self.n_words
        finite = math.isfinite(train_loss) and math.isfinite(valid_loss)
        best = finite and valid_loss < self.best_loss
        self.n_since_best = 0 if best else self.n_since_best + 1
        if best:
            self.best_loss, self.best_step = valid_loss, self.step
        if not finite:
            self.end = "diverged"
        elif settings.patience and self.n_since_best >= settings.patience:
            self.end = "patience"
        elif self.step == settings.n_epochs * n_batches:
            self.end = "n_epochs"
        self.rows.append(
            {name: getattr(settings, name) for name in REPEATED.split()}
            | {
                "epoch": self.step / n_batches,
                "step": self.step,
                "n_tokens": self.step * settings.batch_size * settings.tgt_len,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_perplexity": perplexity(valid_loss),
                "best_valid_perplexity": perplexity(self.best_loss),
                "status": "ok" if finite else "diverged",
            }
            | dict(noise or {})
        )
        self.nll, self.n_words = 0.0, 0
        return best


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is beyond the floating-point numbers."""
    return math.inf if loss > 709 else math.exp(loss)
