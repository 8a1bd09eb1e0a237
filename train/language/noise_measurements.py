"""The noise scale of a snapshot: from the gradient of every window, and from batches of two sizes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.settings import COUNT, SEED, WHOLE, Number, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adam_minibatch_noise.noise_scale.sample_gradients import GradientNoise
    from adam_minibatch_noise.noise_scale.two_batch import NoiseEstimate
    from train.language.snapshots import Snapshot
    from train.language.transformer_xl import TransformerXL

METHODS = ("exact", "two-batch", "both")
EXACT = "n_params grad_sq_norm grad_l1 tr_sigma b_simple share_below share_above share_zero"
"""Columns of the exact method."""
_EXACT, _TWO_BATCH = {"method": ("exact", "both")}, {"method": ("two-batch", "both")}


@dataclass(frozen=True)
class Settings:
    """How the noise scale of a snapshot is measured."""

    method: str = setting("both", "every window's gradient, batches of two sizes, or both", choices=METHODS)
    max_windows: int = setting(
        0,
        "take the first so many windows for the whole training split; 0: as many as the run had",
        WHOLE,
        unit="windows",
    )
    chunk: int = setting(
        0, "windows at a time; 0: as many as are fast", WHOLE, unit="windows", group="exact", only_with=_EXACT
    )
    small_size: int = setting(
        32, "windows in a small batch", COUNT, unit="windows", group="two-batch", only_with=_TWO_BATCH
    )
    big_size: int = setting(
        256,
        "windows in a big batch, made of small ones",
        COUNT,
        unit="windows",
        group="two-batch",
        only_with=_TWO_BATCH,
    )
    n_draws: int = setting(40, "big batches", COUNT, group="two-batch", only_with=_TWO_BATCH)
    seed: int = setting(0, "of the draws", SEED, group="two-batch", only_with=_TWO_BATCH)
    level: float = setting(
        0.95,
        "of the confidence interval",
        Number(float, 0, 1, open_low=True, open_high=True),
        group="two-batch",
        only_with=_TWO_BATCH,
    )


def draw_measurements(
    model: "TransformerXL",
    inputs: "Tensor",
    targets: "Tensor",
    small_size: int,
    big_size: int,
    n_draws: int,
    seed: int,
    level: float = 0.95,
    progress: Callable[[int], object] = lambda n: None,
) -> "NoiseEstimate":
    """Estimate the noise scale at fixed parameters from drawn batches, without dropout.

    Parameters
    ----------
    model : TransformerXL
        Without memory.
    inputs, targets : Tensor of int64, shape (n_samples, tgt_len)
    small_size, big_size : int
        Of the batches; a big one is cut into small ones, whose squared norms are averaged. `small_size` must divide
        `big_size`.
    n_draws : int
        Big batches, each drawn without replacement, independently of the others.
    seed : int
        Of the draws.
    level : float
        Of the confidence interval.
    progress : callable
        Called with the number of windows of each batch that is done.

    Raises
    ------
    InputError
        Sizes that do not fit each other or the number of windows.
    """
    import numpy as np
    import torch

    from adam_minibatch_noise.noise_scale.two_batch import TwoBatchEstimator, sq_norm

    if big_size % small_size:
        raise InputError(f"--small-size is {small_size}, allowed: a divisor of --big-size {big_size}")
    estimator = TwoBatchEstimator(len(inputs), small_size, big_size, window=n_draws)
    rng, params, was_training = np.random.default_rng(seed), list(model.parameters()), model.training
    n_small, n_words = big_size // small_size, small_size * inputs.shape[1]
    model.eval()
    for _ in range(n_draws):
        drawn = torch.from_numpy(rng.choice(len(inputs), big_size, replace=False)).to(inputs.device)
        mean = [torch.zeros_like(param) for param in params]
        small_sq_norm = torch.zeros((), dtype=torch.float64, device=inputs.device)
        for windows in drawn.split(small_size):
            loss, _ = model(inputs[windows], targets[windows])
            grads = torch.autograd.grad(loss / n_words, params)
            small_sq_norm += sq_norm(grads) / n_small
            torch._foreach_add_(mean, grads, alpha=1 / n_small)
            progress(small_size)
        estimator.add(small_sq_norm, sq_norm(mean))
    model.train(was_training)
    return estimator.result(level)


def measure(
    snapshot: "Snapshot",
    settings: Settings,
    device: "torch.device",
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Make the row of one snapshot.

    Parameters
    ----------
    snapshot : Snapshot
    settings : Settings
    device : torch.device
    data_dir, cache_dir : path, optional
        Of `train.language.corpora.load`.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    dict
        Settings of the run, where the snapshot stands, and what was measured.

    Raises
    ------
    InputError
        A snapshot of another corpus, or of a model with memory; batch sizes that do not fit the windows.
    """
    from tqdm import tqdm

    from adam_minibatch_noise.noise_scale.sample_gradients import gradient_noise
    from train.language.batches import to_windows
    from train.language.per_sample import window_moments
    from train.language.run_state import REPEATED
    from train.language.snapshots import restore

    s, how = snapshot.settings, settings
    if s.mem_len:
        raise InputError(f"mem_len of the snapshot is {s.mem_len}, allowed: 0 (windows that stand alone)")
    corpus = _corpus(s.corpus, data_dir, cache_dir)
    model = restore(snapshot, corpus, device)
    n_windows = how.max_windows or s.max_train_windows or None
    inputs, targets = (x[:n_windows] for x in to_windows(corpus.train, s.tgt_len, device))
    noise = estimate = None
    drawn = how.big_size * how.n_draws if how.method != "exact" else 0
    total = drawn + (len(inputs) if how.method != "two-batch" else 0)
    with tqdm(total=total, unit=" windows", disable=not progress, leave=False) as bar:
        if drawn:
            sizes = how.small_size, how.big_size, how.n_draws
            estimate = draw_measurements(
                model, inputs, targets, *sizes, how.seed, how.level, progress=bar.update
            )
        if how.method != "two-batch":
            noise = gradient_noise(window_moments(model, inputs, targets, how.chunk, bar.update))
    return {
        **{name: getattr(s, name) for name in REPEATED.split()},
        **{name: getattr(snapshot, name) for name in ("epoch", "step", "valid_perplexity")},
        "n_samples": len(inputs),
        **columns(noise, estimate),
    }


@cache
def _corpus(name, data_dir, cache_dir):
    from train.language import corpora

    return corpora.load(name, data_dir, cache_dir)


def columns(noise: "GradientNoise | None", estimate: "NoiseEstimate | None") -> dict[str, float]:
    """Return the columns of both methods, nan for one that was not used.

    Parameters
    ----------
    noise : GradientNoise, optional
    estimate : NoiseEstimate, optional
    """
    from adam_minibatch_noise.noise_scale.sample_gradients import LEVELS
    from adam_minibatch_noise.noise_scale.two_batch import NoiseEstimate

    quantiles = noise.component_quantiles.tolist() if noise else [math.nan] * len(LEVELS)
    estimate = estimate or NoiseEstimate(0, *[math.nan] * 6)
    return {
        **{name: getattr(noise, name, math.nan) for name in EXACT.split()},
        **{f"component_q{100 * x:02.0f}": value for x, value in zip(LEVELS, quantiles, strict=True)},
        **estimate.columns(),
    }
