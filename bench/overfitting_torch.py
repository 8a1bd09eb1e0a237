"""The jobs of `bench.overfitting` in torch: float32, a block of runs at a time, batched by hand or `torch.func`."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.overfitting_jobs import EPS, Job, Runs, Weights

Tensors = dict[str, torch.Tensor]


def draw(job: Job, n_runs: int, seed: int) -> torch.Tensor | None:
    """Draw orders (n_runs, n_steps, batch_size) by torch alone, which sorts random numbers."""
    if job.full:
        return None
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(n_runs, job.n_epochs, job.n_samples, generator=generator)
    return keys.argsort(dim=2).view(n_runs, job.n_steps, job.batch_size)


def by_hand(job: Job, w: Tensors, x: torch.Tensor, targets: torch.Tensor) -> Tensors:
    """Return the gradients of R networks at inputs (R, b, n_inputs or context) and one-hot classes, by hand."""
    n_runs = len(x)
    if job.n_words:
        places = (x + job.n_words * torch.arange(n_runs)[:, None, None]).flatten()
        x = w["embedding"].view(-1, job.width)[places].view(n_runs, -1, job.n_inputs)
    hidden = torch.baddbmm(w["b1"][:, None], x, w["w1"]).relu()
    by_scores = (torch.baddbmm(w["b2"][:, None], hidden, w["w2"]).softmax(2) - targets) / job.batch_size
    by_hidden = torch.bmm(by_scores, w["w2"].transpose(1, 2)) * (hidden > 0)
    g = {
        "w1": torch.bmm(x.transpose(1, 2), by_hidden),
        "b1": by_hidden.sum(1),
        "w2": torch.bmm(hidden.transpose(1, 2), by_scores),
        "b2": by_scores.sum(1),
    }
    if job.n_words:
        by_x = torch.bmm(by_hidden, w["w1"].transpose(1, 2)).view(-1, job.width)
        zero = torch.zeros(n_runs * job.n_words, job.width)
        g["embedding"] = zero.index_add_(0, places, by_x).view(n_runs, job.n_words, job.width)
    return g


def by_hand_full(job: Job, w: Tensors, x: torch.Tensor, targets: torch.Tensor) -> Tensors:
    """Do the same where all networks see the same inputs (n, n_inputs): samples are columns, the product is shared."""
    n_runs, n_rows = len(w["b1"]), w["b1"].numel()
    first = w["w1"].transpose(1, 2).reshape(n_rows, job.n_inputs)
    hidden = torch.addmm(w["b1"].view(n_rows, 1), first, x.t()).relu().view(n_runs, job.n_hidden, -1)
    scores = torch.baddbmm(w["b2"][:, :, None], w["w2"].transpose(1, 2), hidden)
    by_scores = (scores.softmax(1) - targets.t()) / job.batch_size
    by_hidden = torch.bmm(w["w2"], by_scores) * (hidden > 0)
    by_first = by_hidden.view(n_rows, -1) @ x
    return {
        "w1": by_first.view(n_runs, job.n_hidden, job.n_inputs).transpose(1, 2),
        "b1": by_hidden.sum(2),
        "w2": torch.bmm(hidden, by_scores.transpose(1, 2)),
        "b2": by_scores.sum(2),
    }


def by_func(job: Job) -> Callable[[Tensors, torch.Tensor, torch.Tensor], Tensors]:
    """Make the same with `torch.func`: vmap over runs of the gradient of one network's loss."""
    from torch.func import functional_call, grad, vmap

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if job.n_words:
                self.embedding = torch.nn.Embedding(job.n_words, job.width)
            self.first = torch.nn.Linear(job.n_inputs, job.n_hidden)
            self.second = torch.nn.Linear(job.n_hidden, job.n_classes)

        def forward(self, x):
            x = self.embedding(x).flatten(1) if job.n_words else x
            return self.second(self.first(x).relu())

    network = Network().to("meta")

    def loss(w, x, targets):
        return torch.nn.functional.cross_entropy(functional_call(network, (w,), (x,)), targets)

    return vmap(grad(loss), in_dims=(0, None, None) if job.full else 0)


def as_module(w: Tensors, back: bool = False) -> Tensors:
    """Rename and transpose the arrays of `Runs` into what `torch.func.stack_module_state` returns, or back."""
    names = {"b1": "first.bias", "b2": "second.bias", "embedding": "embedding.weight"}
    turned = {"w1": "first.weight", "w2": "second.weight"}
    if back:
        names, turned = ({new: old for old, new in pairs.items()} for pairs in (names, turned))
    return {
        **{new: w[old] for old, new in names.items() if old in w},
        **{new: w[old].transpose(1, 2).contiguous() for old, new in turned.items()},
    }


def make(job: Job, functional: bool = False):
    """Make the function that trains a block of runs, given orders as `draw` returns them; it returns their weights.

    A step, from the gathering of a batch to the new weights, is compiled; `functional`: gradients by `torch.func`.
    """
    inputs, classes = (torch.from_numpy(array) for array in job.data())
    inputs, classes = inputs.long() if job.n_words else inputs, classes.long()
    if functional:
        gradients, targets = by_func(job), classes
    else:
        gradients = partial(by_hand_full if job.full else by_hand, job)
        targets = torch.nn.functional.one_hot(classes, job.n_classes).float()

    def step(w, exp_avg, exp_avg_sq, batch, gain1, gain2, step_size, eps):
        g = gradients(w, inputs, targets) if batch is None else gradients(w, inputs[batch], targets[batch])
        for name, values in w.items():
            shape = (-1, *[1] * (values.dim() - 1))
            m, v = exp_avg[name], exp_avg_sq[name]
            m.lerp_(g[name], gain1.view(shape))
            v.lerp_(g[name] * g[name], gain2.view(shape))
            values.sub_(step_size.view(shape) * m / (v.sqrt() + eps.view(shape)))

    compiled = torch.compile(step, dynamic=False)

    @torch.no_grad()
    def train(runs: Runs, orders: torch.Tensor | None, n_steps: int = job.n_steps) -> Weights:
        w = {name: torch.from_numpy(array.copy()) for name, array in runs.weights.items()}
        w = as_module(w) if functional else w
        exp_avg, exp_avg_sq = ({name: torch.zeros_like(x) for name, x in w.items()} for _ in range(2))
        beta1, beta2 = (torch.from_numpy(beta.astype(np.float64)) for beta in (runs.beta1, runs.beta2))
        t = torch.arange(1, n_steps + 1, dtype=torch.float64)[:, None]
        root = (1 - beta2**t).sqrt()
        step_size = (torch.from_numpy(runs.lr) * root / (1 - beta1**t)).float()
        eps, gains = (EPS * root).float(), ((1 - beta1).float(), (1 - beta2).float())
        batches = [None] * n_steps if orders is None else orders[:, :n_steps].transpose(0, 1).contiguous()
        for i, batch in enumerate(batches):
            compiled(w, exp_avg, exp_avg_sq, batch, *gains, step_size[i], eps[i])
        return {name: x.numpy() for name, x in (as_module(w, back=True) if functional else w).items()}

    return train
