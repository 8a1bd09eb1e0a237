"""A model, its optimiser and its data on a device, for one run after another: what is compiled is compiled once."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.two_batch import TwoBatchEstimator, sq_norm
from adam_minibatch_noise.optimizers.adam import Adam
from train.language.batches import mean_loss, to_windows
from train.language.snapshots import Snapshot
from train.language.transformer_xl import TransformerXL
from train.runtime.distributed import Ranks

if TYPE_CHECKING:
    from train.language.corpora import Corpus
    from train.language.settings import Settings

ALIGNMENT = 64
"""Elements to which each parameter is aligned in the flat vector: 256 bytes of float32."""

EVERY_RUN = "lr beta1 beta2 eps eps_root weight_decay seed n_epochs patience evaluations_per_epoch"
"""Settings that may change from one run of a trainer to the next."""


class Trainer:
    """What runs of the same model at the same batch size share.

    Parameters
    ----------
    settings : Settings
    corpus : Corpus
    device : torch.device
    compiled : bool
        Compile model and optimiser (seconds to minutes, once); learning rate, betas and seeds may change without
        compiling anew.
    ranks : Ranks
        Processes that share each batch.

    Attributes
    ----------
    values : Parameter, shape (n_flat,)
        All parameters, one after the other, with zeros between them (see `flatten`); `values.grad` likewise.

    Raises
    ------
    InputError
        Settings that do not fit the corpus.
    """

    def __init__(
        self,
        settings: "Settings",
        corpus: "Corpus",
        device: torch.device,
        *,
        compiled: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        s, self.corpus, self.device, self.ranks = settings, corpus, device, ranks or Ranks()
        windows = to_windows(corpus.train, s.tgt_len, device)
        self.inputs, self.targets = (x[: s.max_train_windows or None] for x in windows)
        s.check(len(self.inputs))
        if self.ranks.size > 1 and s.noise_interval:
            raise InputError(f"--noise-interval is {s.noise_interval}, allowed: 0 with several processes")
        if self.ranks.size > min(s.batch_size, 1 if s.mem_len else s.batch_size):
            allowed = "1 with --mem-len" if s.mem_len else f"at most --batch-size {s.batch_size}"
            raise InputError(f"the processes are {self.ranks.size}, allowed: {allowed}")
        self.settings = settings
        self.n_batches, self.n_dropped = divmod(len(self.inputs), s.batch_size)
        self._dropping_is_said = not self.n_dropped or self.ranks.rank > 0
        self.micro_batch_size = min(s.micro_batch_size or s.batch_size, s.batch_size)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=s.dtype == "bfloat16")
        self.model = self._fresh_model().to(device)
        self.values = flatten(self.model)
        self.optimizer = Adam([self.values], compiled=compiled)
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model

    def start(self, settings: "Settings") -> None:
        """Draw the initial parameters of a run and forget the moments of the run before.

        Parameters
        ----------
        settings : Settings
            Those of the trainer but for `EVERY_RUN`.

        Raises
        ------
        InputError
            Other differences; values out of range.
        """
        for name, value in asdict(settings).items():
            if name not in EVERY_RUN.split() and value != getattr(self.settings, name):
                raise InputError(
                    f"{name} is {value!r}, allowed: {getattr(self.settings, name)!r} as in the trainer"
                )
        s = self.settings = settings
        torch.manual_seed(s.seed)
        fresh = flatten(self._fresh_model())  # drawn on the CPU: the same on every device
        self.load_values(fresh)
        self._gradient().zero_()
        self.optimizer.reset(s.lr, (s.beta1, s.beta2), s.eps, s.eps_root, s.weight_decay)
        if self.ranks.rank:  # dropout differs from process to process
            torch.manual_seed(s.seed + (self.ranks.rank << 32))

    def gradient(
        self, windows: Tensor, memory: Tensor | None = None, noise: TwoBatchEstimator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Put the gradient of the mean cross-entropy a word into `values.grad`, micro-batch by micro-batch.

        Parameters
        ----------
        windows : Tensor of int64, shape (batch_size,)
            Numbers of the windows of the batch.
        memory : Tensor, optional
            See `TransformerXL.hidden`.
        noise : TwoBatchEstimator, optional
            Takes in the squared norms of the gradients of a micro-batch and of the batch. A batch that is one
            micro-batch is cut in halves for it.

        Returns
        -------
        nll : Tensor of float64, shape ()
            Sum over the words of the batch, in nats.
        memory : Tensor or None
            For the batch that follows.
        """
        n_words = windows.numel() * self.inputs.shape[1]
        nll = torch.zeros((), dtype=torch.float64, device=self.device)
        total = self._gradient()
        total.zero_()
        size = noise.small_size if noise else self.micro_batch_size
        small_sq_norm: Tensor | None = None
        for part in self.ranks.share(windows).split(size):
            # a size met only once an epoch is not worth compiling for
            forward = self.forward if len(part) == size else self.model
            with self.autocast:
                loss, memory = forward(self.inputs[part], self.targets[part], memory)
            (loss / n_words).backward()
            nll += loss.detach()
            if (
                noise and small_sq_norm is None
            ):  # so far the gradient of the first part, over the words of all
                small_sq_norm = sq_norm([total]) * (len(windows) / size) ** 2
        if noise:
            assert small_sq_norm is not None  # every process has windows of the batch
            noise.add(small_sq_norm, sq_norm([total]))
        self.ranks.sum_(total)
        self.ranks.sum_(nll)
        return nll, memory

    def noise_estimator(self) -> TwoBatchEstimator | None:
        """Return a new estimator of the noise scale, if the settings ask for one."""
        if not self.settings.noise_interval:
            return None
        small_size = min(self.micro_batch_size, self.settings.batch_size // 2)
        window = max(20, self.n_batches // self.settings.noise_interval)  # about an epoch: parameters move
        return TwoBatchEstimator(len(self.inputs), small_size, self.settings.batch_size, window)

    def loss(self, split: str) -> float:
        """Mean cross-entropy of the words of a split, in nats, without dropout."""
        with self.autocast:
            text, tgt_len = getattr(self.corpus, split), self.settings.tgt_len
            return mean_loss(self.model, text, tgt_len, self.forward, self.ranks)

    def state_dict(self) -> dict[str, Any]:
        """Parameters and moments."""
        return {"values": self.values.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.load_values(state["values"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def load_values(self, values: Tensor) -> None:
        """Replace the parameters, given as one vector."""
        self.values.copy_(values)

    def say_what_is_dropped(self) -> None:
        """Say once, on standard error, how many windows an epoch leaves out, if any."""
        if not self._dropping_is_said:
            of = f"of {len(self.inputs)} windows (batch size {self.settings.batch_size})"
            print(f"each epoch drops {self.n_dropped} {of}", file=sys.stderr)
        self._dropping_is_said = True

    def snapshot(self, row: dict[str, Any]) -> Snapshot:
        """Return the parameters at the evaluation that added `row` (see `Course.record`)."""
        known = {name: row[name] for name in ("epoch", "step", "valid_perplexity")}
        return Snapshot(self.settings, self.corpus.sha256, **known, state=self.model.state_dict())

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return sum(param.numel() for param in self.model.parameters())

    def _gradient(self) -> Tensor:
        assert self.values.grad is not None  # `flatten` has made it
        return self.values.grad

    def _fresh_model(self) -> TransformerXL:
        return TransformerXL(n_token=len(self.corpus.vocabulary), **self.settings.model())


def flatten(model: nn.Module) -> nn.Parameter:
    """Move the parameters of a model, and their gradients, into one vector each; the model keeps views.

    One vector makes one operation of each pass over all parameters: an optimiser step, a norm, a sum over processes.

    Parameters
    ----------
    model : Module
        Parameters of one type on one device.

    Returns
    -------
    Parameter, shape (n_flat,)
        Parameters in their order, each padded with zeros to a multiple of `ALIGNMENT`; `.grad` is zero, and
        backward passes of the model add to it.
    """
    params = list(model.parameters())
    sizes = [-(-param.numel() // ALIGNMENT) * ALIGNMENT for param in params]
    flat = nn.Parameter(params[0].new_zeros(sum(sizes)))
    flat.grad = torch.zeros_like(flat)
    parts = zip(params, flat.detach().split(sizes), flat.grad.split(sizes), strict=True)
    for param, values, grads in parts:
        values = values[: param.numel()].view_as(param).copy_(param.detach())
        param.data, param.grad = values, grads[: param.numel()].view_as(param)
    return flat
