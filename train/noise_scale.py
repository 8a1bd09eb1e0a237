"""Measure the gradient noise scale B_simple = tr(Sigma)/|g|^2 at snapshots of a run, without dropout.

`exact` takes the gradient of every training window by itself; `two-batch` draws batches of two sizes at the same
parameters and gives an estimate with its confidence interval (Fieller's). One row a snapshot: the settings of its
run, where it stood, and what was measured; what the method does not measure is nan.
"""

import argparse
import math
import sys
from argparse import BooleanOptionalAction
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import Parser, add_output_flags, count, number, run, seed, write_result
from sim.records import InputError, to_table
from train import machine

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.language.snapshots import Snapshot
    from train.language.transformer_xl import TransformerXL
    from train.noise.sample_gradients import GradientNoise
    from train.noise.two_batch import NoiseEstimate

METHODS = ("exact", "two-batch", "both")
EXACT = "n_params grad_sq_norm grad_l1 tr_sigma b_simple share_below share_above share_zero"
SHOWN = (
    "batch_size lr beta2 seed epoch valid_perplexity b_simple component_q50 b_simple_estimate b_simple_low"
)
"""Columns of the table for the eye."""


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

    from train.noise.two_batch import TwoBatchEstimator, sq_norm

    if big_size % small_size:
        raise InputError(f"--small-size is {small_size}, allowed: a divisor of --big-size {big_size}")
    estimator = TwoBatchEstimator(len(inputs), small_size, big_size, window=n_draws)
    rng, params, was_training = np.random.default_rng(seed), list(model.parameters()), model.training
    n_small, n_words = big_size // small_size, small_size * inputs.shape[1]
    model.eval()
    for _ in range(n_draws):
        drawn = torch.from_numpy(rng.choice(len(inputs), big_size, replace=False)).to(inputs.device)
        mean, small_sq_norm = [torch.zeros_like(param) for param in params], 0.0
        for windows in drawn.split(small_size):
            loss, _ = model(inputs[windows], targets[windows])
            grads = torch.autograd.grad(loss / n_words, params)
            small_sq_norm += sq_norm(grads) / n_small
            torch._foreach_add_(mean, grads, alpha=1 / n_small)
            progress(small_size)
        estimator.add(small_sq_norm, sq_norm(mean))
    model.train(was_training)
    return estimator.result(level)


def measure(snapshot: "Snapshot", args: argparse.Namespace, device: "torch.device") -> dict[str, Any]:
    """Make the row of one snapshot.

    Parameters
    ----------
    snapshot : Snapshot
    args : Namespace
        Of `parser`.
    device : torch.device

    Raises
    ------
    InputError
        A snapshot of another corpus, or of a model with memory; batch sizes that do not fit the windows.
    """
    from tqdm import tqdm

    from train.language.batches import to_windows
    from train.language.course import REPEATED
    from train.language.snapshots import restore
    from train.noise.per_sample import window_moments
    from train.noise.sample_gradients import gradient_noise

    s = snapshot.settings
    if s.mem_len:
        raise InputError(f"mem_len of the snapshot is {s.mem_len}, allowed: 0 (windows that stand alone)")
    corpus = _corpus(s.corpus, args.data_dir, args.cache_dir)
    model = restore(snapshot, corpus, device)
    n_windows = args.max_windows or s.max_train_windows or None
    inputs, targets = (x[:n_windows] for x in to_windows(corpus.train, s.tgt_len, device))
    noise = estimate = None
    drawn = args.big_size * args.n_draws if args.method != "exact" else 0
    total = drawn + (len(inputs) if args.method != "two-batch" else 0)
    with tqdm(total=total, unit=" windows", disable=not args.progress, leave=False) as bar:
        if drawn:
            sizes = args.small_size, args.big_size, args.n_draws
            estimate = draw_measurements(
                model, inputs, targets, *sizes, args.seed, args.level, progress=bar.update
            )
        if args.method != "two-batch":
            noise = gradient_noise(window_moments(model, inputs, targets, args.chunk, bar.update))
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
    from train.noise.sample_gradients import LEVELS
    from train.noise.two_batch import NoiseEstimate

    quantiles = noise.component_quantiles.tolist() if noise else [math.nan] * len(LEVELS)
    estimate = estimate or NoiseEstimate(0, *[math.nan] * 6)
    return {
        **{name: getattr(noise, name, math.nan) for name in EXACT.split()},
        **{f"component_q{100 * x:02.0f}": value for x, value in zip(LEVELS, quantiles, strict=True)},
        **estimate.columns(),
    }


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m train.noise_scale", description=__doc__)
    parser.add_argument("--snapshots", type=Path, nargs="+", required=True, metavar="FILE", help="of runs")
    parser.add_argument("--method", choices=METHODS, default="both", help="how to measure")
    parser.add_argument(
        "--max-windows",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="take the first so many windows for the whole training split; 0: as many as the run had",
    )
    parser.add_argument(
        "--chunk", type=number(int, 0), default=0, help="exact: windows at a time; 0: as many as are fast"
    )
    batches = parser.add_argument_group("two-batch").add_argument
    batches("--small-size", type=count, default=32, metavar="N", help="windows in a small batch")
    batches("--big-size", type=count, default=256, metavar="N", help="in a big batch, made of small ones")
    batches("--n-draws", type=count, default=40, metavar="N", help="big batches")
    batches("--seed", type=seed, default=0, help="of the draws")
    level = number(float, 0, 1, open_low=True, open_high=True)
    batches("--level", type=level, default=0.95, help="of the confidence interval")
    files = parser.add_argument_group("files and machine").add_argument
    files("--data-dir", type=Path, help="folder that holds wikitext-2/{train,valid,test}.txt; else: download")
    files("--cache-dir", type=Path, help="folder of downloads; None: ~/.cache/adam-minibatch-noise")
    files("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    files("--n-threads", type=machine.threads, default=1, metavar="N", help="of the CPU")
    files("--progress", action=BooleanOptionalAction, default=sys.stderr.isatty(), help="show a bar")
    add_output_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read the snapshots, measure each, write one row a snapshot."""
    args = parser().parse_args(argv)
    import torch

    from train.language.snapshots import load_snapshot

    device = torch.device(machine.device_type(args))
    rows = []
    for path in args.snapshots:
        snapshot = load_snapshot(path, device)
        try:
            rows.append(measure(snapshot, args, device))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    shown = [*SHOWN.split(), "b_simple_high"]
    table = to_table(shown, [[row[name] for name in shown] for row in rows])
    write_result(args, rows=rows, value=rows, table=table)


if __name__ == "__main__":
    run(main)
