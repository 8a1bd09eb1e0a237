"""Several Transformer-XLs of one size side by side: their parameters in one array, their layers in one program.

A small model spends its time in many small operations. Here each operation of the layers serves all models at once
(a leading axis for the model, `torch.bmm` for the products). On a CPU embedding and softmax go model by model, so that
their weights stay in the cache; on a GPU they serve all models as well. What a model computes depends on its neighbours
by rounding alone.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from train.language.cross_entropy import add_gradients, add_stacked_gradients
from train.language.transformer_xl import TransformerXL, relative_shift, sinusoids

if TYPE_CHECKING:
    from train.language.settings import Settings

EMBEDDING, OUTPUT, OUTPUT_BIAS = "word_embedding.weight", "output.weight", "output.bias"


def words_at_a_time(device: torch.device) -> int:
    """Words of all models that go through the layers together: on a CPU activations stay in the cache of a core."""
    return 2048 if device.type == "cpu" else 2**16


class StackedModels:
    """Parameters and gradients of k models, and the gradients of their losses.

    Without memory and dropout, in the type of the parameters.

    Parameters
    ----------
    model : TransformerXL
        Of the size of all: names, shapes and device of its parameters.
    alignment : int
        Of each parameter in a vector of all, see `train.language.trainer.flatten`.
    settings : Settings
        Numbers of layers and heads, and `micro_batch_size`, on a CPU the most windows of a model at a time.

    Attributes
    ----------
    values, grads : Tensor, shape (k, n_flat)
        A row a model, see `arrange`.
    all_at_once : bool
        Whether embedding and softmax, too, serve all models in one operation: on any device but a CPU.
    """

    def __init__(self, model: TransformerXL, alignment: int, settings: "Settings") -> None:
        self.settings = settings
        self.all_at_once = next(model.parameters()).device.type != "cpu"
        self._places, start = {}, 0
        for name, param in model.named_parameters():
            self._places[name] = start, param.shape
            start += -(-param.numel() // alignment) * alignment
        self.arrange([next(model.parameters()).new_zeros(start)])

    def arrange(self, rows: Sequence[Tensor]) -> None:
        """Take over the parameters of models, one vector (n_flat,) each, and begin with gradients of zero."""
        self.values = torch.stack([row.detach() for row in rows])
        self.grads = torch.zeros_like(self.values)
        self._params, self._grads = self._views(self.values), self._views(self.grads)

    def _views(self, rows: Tensor) -> dict[str, Tensor]:
        return {
            name: rows[:, start : start + shape.numel()].view(len(rows), *shape)
            for name, (start, shape) in self._places.items()
        }

    def windows_at_a_time(self, batch_size: int, tgt_len: int) -> int:
        """Return how many windows of each model go through the layers together."""
        most = max(1, words_at_a_time(self.values.device) // (len(self.values) * tgt_len))
        if not self.all_at_once:
            most = min(most, self.settings.micro_batch_size or most)
        return min(batch_size, most)

    def gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Put the gradients of the mean cross-entropies a word into `grads`.

        Parameters
        ----------
        inputs, targets : Tensor of int64, shape (k, batch_size, tgt_len)
            The batch of each model.

        Returns
        -------
        Tensor of float64, shape (k,)
            Sums of the cross-entropies over the words of each batch, in nats.
        """
        n_models, batch_size, tgt_len = inputs.shape
        nll = torch.zeros(n_models, dtype=torch.float64, device=inputs.device)
        size = self.windows_at_a_time(batch_size, tgt_len)
        self.grads.zero_()
        for words, wanted in zip(inputs.split(size, 1), targets.split(size, 1), strict=True):
            nll += self._add_gradient(words.flatten(1), wanted.flatten(1), tgt_len)
        self.grads /= batch_size * tgt_len
        return nll

    def _add_gradient(self, words: Tensor, targets: Tensor, tgt_len: int) -> Tensor:
        """Add the gradients of the sums of the cross-entropies, words and targets of shape (k, n_rows)."""
        scale, table = math.sqrt(self._params[EMBEDDING].shape[2]), self._params[EMBEDDING]
        if self.all_at_once:
            places = words[:, :, None].expand(-1, -1, table.shape[2])
            embedded = table.gather(1, places)
        else:
            embedded = torch.stack(
                [entries[of_model] for entries, of_model in zip(table, words, strict=True)]
            )
        embedded = (embedded * scale).requires_grad_()
        inner = {
            name: param.detach().requires_grad_()
            for name, param in self._params.items()
            if name not in (EMBEDDING, OUTPUT, OUTPUT_BIAS)
        }
        hidden = self._hidden(inner, embedded, tgt_len)
        d_hidden = torch.empty_like(hidden)
        softmax = self._params[OUTPUT], self._params[OUTPUT_BIAS], targets
        gradients = d_hidden, self._grads[OUTPUT], self._grads[OUTPUT_BIAS]
        if self.all_at_once:
            sums = add_stacked_gradients(hidden.detach(), *softmax, gradients)
        else:
            of_models = zip(hidden.detach(), *softmax, zip(*gradients, strict=True), strict=True)
            sums = torch.stack([add_gradients(*of_model) for of_model in of_models])
        d_embedded, *d_inner = torch.autograd.grad(hidden, [embedded, *inner.values()], d_hidden)
        torch._foreach_add_([self._grads[name] for name in inner], d_inner)
        if self.all_at_once:
            self._grads[EMBEDDING].scatter_add_(1, places, d_embedded * scale)
        else:
            for grad, of_model, rows in zip(self._grads[EMBEDDING], words, d_embedded, strict=True):
                grad.index_add_(0, of_model, rows, alpha=scale)
        return sums.double()

    def _hidden(self, params: dict[str, Tensor], x: Tensor, tgt_len: int) -> Tensor:
        """Run the layers on embedded words (k, n_windows tgt_len, d_model): formulas of `transformer_xl.Layer`."""
        hide = torch.ones(tgt_len, tgt_len, dtype=torch.bool, device=x.device).triu(1)
        positions = sinusoids(tgt_len, x.shape[2], x)
        u, v = (params[name][:, :, None] for name in ("r_w_bias", "r_r_bias"))  # (k, n_head, 1, d_head)
        for i in range(self.settings.n_layer):
            layer = {
                name.removeprefix(f"layers.{i}."): param
                for name, param in params.items()
                if name.startswith(f"layers.{i}.")
            }
            attended = self._attend(layer, x, positions, hide, u, v)
            x = _norm(x + torch.bmm(attended, layer["o_net.weight"].mT), layer, "attention_norm")
            inner = torch.baddbmm(layer["inner.bias"][:, None], x, layer["inner.weight"].mT).relu()
            outer = torch.baddbmm(x + layer["outer.bias"][:, None], inner, layer["outer.weight"].mT)
            x = _norm(outer, layer, "feedforward_norm")
        return x

    def _attend(
        self, layer: dict[str, Tensor], x: Tensor, positions: Tensor, hide: Tensor, u: Tensor, v: Tensor
    ) -> Tensor:
        """Scores ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(d_head), and what they mix: (k, n_rows, n_head d_head)."""
        n_models, n_rows, _ = x.shape
        n_head, d_head, tgt_len = self.settings.n_head, self.settings.d_head, len(positions)
        by_window = (n_models, n_head, n_rows // tgt_len, tgt_len)
        q = torch.bmm(x, layer["q_net.weight"].mT).unflatten(2, (n_head, d_head)).transpose(1, 2)
        kv = torch.bmm(x, layer["kv_net.weight"].mT).view(n_models, -1, tgt_len, 2, n_head, d_head)
        key, value = kv.permute(3, 0, 4, 1, 2, 5).unbind()  # (k, n_head, n_windows, tgt_len, d_head)
        r = (positions @ layer["r_net.weight"].mT).unflatten(2, (n_head, d_head)).permute(0, 2, 3, 1)
        by_distance = relative_shift(((q + v) @ r).view(*by_window, tgt_len))
        content = (q + u).view(*by_window, d_head) @ key.mT
        scores = ((content + by_distance) * d_head**-0.5).masked_fill(hide, -math.inf)
        return (scores.softmax(4) @ value).permute(0, 2, 3, 1, 4).reshape(n_models, n_rows, n_head * d_head)


def _norm(x: Tensor, layer: dict[str, Tensor], name: str) -> Tensor:
    """Layer-norm with weights and biases of each model."""
    weight, bias = layer[f"{name}.weight"][:, None], layer[f"{name}.bias"][:, None]
    return torch.addcmul(bias, functional.layer_norm(x, x.shape[2:]), weight)
