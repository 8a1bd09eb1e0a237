"""The meter of the noise scale beside traintools and gns-pytorch: on the same gradients of known noise, and its cost.

Bias, error and coverage: samples whose gradients are drawn once, so that |g|^2 and tr(Sigma) are known, in batches of
an epoch without replacement; every contender gets the same batches through its own interface. Cost: a step of a small
network in micro-batches with and without a measurement. Needs the dependency groups `train` and `bench`.
"""

import argparse
import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from common.cli import Parser, run
from common.files import atomic_write, to_table
from common.settings import COUNT

N_PARTS = 4
"""Micro-batches of a step."""
GNS_EVERY = 10
"""Steps from one call of gns-pytorch to the next: its page advises 100, and to average over calls with weight 0.9."""


@dataclass(frozen=True)
class Case:
    """A set of samples and how it is drawn.

    Attributes
    ----------
    noise : float
        Standard deviation of a component of a sample's gradient, whose mean is 1: B_simple is about its square.
    """

    name: str
    n_samples: int
    batch_size: int
    noise: float
    n_params: int = 200


CASES = (
    Case("B as large as the batch", 4096, 64, 8.0),
    Case("B 16 times the batch", 4096, 64, 32.0),
    Case("B 1/16 of the batch", 4096, 64, 2.0),
    Case("batch a quarter of the data", 256, 64, 8.0),
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m bench.noise_scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("--n-repeats", type=COUNT, default=100, help="windows of each case")
    parser.add_argument("--n-steps", type=COUNT, default=200, help="steps of a window")
    parser.add_argument("--n-turns", type=COUNT, default=15, help="turns of the timing")
    parser.add_argument("--out", default="results/bench/noise_scale.csv", metavar="CSV", help="written anew")
    return parser


class Fixed:
    """A model in which sample r has the gradient x_r; made in a function, as torch is imported late."""

    @staticmethod
    def make(n_params: int) -> Any:
        """Return it as a torch module."""
        import torch
        from torch import nn

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.theta = nn.Parameter(torch.zeros(n_params))

            def forward(self, x):
                return x @ self.theta

        return Module()


Contender = Callable[[Any, Case, Iterator[Any]], tuple[float, float, float]]
"""Of a model, a case and its batches; returns estimate and interval, nan where there is none."""


def meter(
    model: Any, case: Case, batches: Iterator[Any], every_half: bool = False
) -> tuple[float, float, float]:
    """Ours: every micro-batch, or half of a batch in each step."""
    from adam_minibatch_noise.noise_scale import NoiseScaleMeter

    found = NoiseScaleMeter(model, case.batch_size, case.n_samples, every=1)
    for batch in batches:
        model.zero_grad()
        if every_half:
            found.half_batch(lambda half, batch=batch: model(batch[half]).mean())
            model(batch).mean().backward()
        else:
            for part in batch.chunk(N_PARTS):
                (model(part).mean() / N_PARTS).backward()
                found.micro_batch()
        found.step()
    noise = found.result()
    return noise.b_simple, noise.low, noise.high


def meter_half(model: Any, case: Case, batches: Iterator[Any]) -> tuple[float, float, float]:
    """Ours, with the gradient of half of each batch."""
    return meter(model, case, batches, every_half=True)


def traintools(model: Any, case: Case, batches: Iterator[Any]) -> tuple[float, float, float]:
    """Its accumulator, with its default memory."""
    from traintools.gradnoise import GradientAccumulationGNS

    found, result = GradientAccumulationGNS(model, case.batch_size // N_PARTS), None
    for batch in batches:
        model.zero_grad()
        for part in batch.chunk(N_PARTS):
            (model(part).mean() / N_PARTS).backward()
            found.record_microbatch()
        result = found.compute()
        found.reset_accumulation()
    assert result is not None
    return result.gns, math.nan, math.nan


def traintools_long(model: Any, case: Case, batches: Iterator[Any]) -> tuple[float, float, float]:
    """The same, told to remember as many steps as our window holds: plain means, by a decay for each step."""
    from traintools.gradnoise import GradientAccumulationGNS

    found, result = GradientAccumulationGNS(model, case.batch_size // N_PARTS), None
    for i, batch in enumerate(batches):
        model.zero_grad()
        for part in batch.chunk(N_PARTS):
            (model(part).mean() / N_PARTS).backward()
            found.record_microbatch()
        found.estimator.decay = i / (i + 1)
        result = found.compute()
        found.reset_accumulation()
    assert result is not None
    return result.gns, math.nan, math.nan


def gns_pytorch(model: Any, case: Case, batches: Iterator[Any]) -> tuple[float, float, float]:
    """Its function in one step out of `GNS_EVERY`, averaged as its page says."""
    from gns_pytorch import compute_gns

    average = None
    for i, batch in enumerate(batches):
        if i % GNS_EVERY == 0:
            value = compute_gns(model(batch), model)
            average = value if average is None else 0.9 * average + 0.1 * value
    assert average is not None
    return average, math.nan, math.nan


CONTENDERS: dict[str, Contender] = {
    "meter, micro-batches": meter,
    "meter, half a batch": meter_half,
    "traintools": traintools,
    "traintools, plain means": traintools_long,
    "gns-pytorch": gns_pytorch,
}


def accuracy(case: Case, n_repeats: int, n_steps: int) -> list[dict[str, Any]]:
    """Run every contender over the same windows of batches.

    Parameters
    ----------
    case : Case
    n_repeats, n_steps : int

    Returns
    -------
    list of dict
        One a contender: median over truth, root mean square of log10(estimate / truth) over the finite ones, share of
        windows without a usable number (infinite, capped or 0), share of intervals that cover the truth.
    """
    import torch

    generator = torch.Generator().manual_seed(7)
    x = 1 + case.noise * torch.randn(case.n_samples, case.n_params, generator=generator)
    g = x.mean(0)
    truth = float(((x - g) ** 2).sum() / case.n_samples / (g @ g))
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
    for repeat in range(n_repeats):
        for name, contender in CONTENDERS.items():
            order = torch.Generator().manual_seed(repeat)

            def batches(order: Any = order) -> Iterator[Any]:
                left = n_steps
                while left:
                    for chosen in torch.randperm(case.n_samples, generator=order).split(case.batch_size)[
                        :left
                    ]:
                        left -= 1
                        yield x[chosen]

            found[name].append(contender(Fixed.make(case.n_params), case, batches()))
    rows = []
    for name, results in found.items():
        values = [value for value, _, _ in results]
        usable = [value for value in values if 0 < value < 1e5]
        ends = [(low, high) for _, low, high in results if not math.isnan(low)]
        rows.append(
            {
                "case": case.name,
                "contender": name,
                "b_simple": truth,
                "median_over_truth": statistics.median(values) / truth,
                "rms_log10": (sum(math.log10(v / truth) ** 2 for v in usable) / len(usable)) ** 0.5
                if usable
                else math.nan,
                "unusable": 1 - len(usable) / len(values),
                "coverage": sum(low <= truth <= high for low, high in ends) / len(ends) if ends else math.nan,
            }
        )
    return rows


def cost(n_turns: int) -> list[dict[str, Any]]:
    """Time a step of a network of 1.3 million weights in four micro-batches of 32, and the same with a measurement.

    Parameters
    ----------
    n_turns : int
        Contenders take turns; medians are compared.

    Returns
    -------
    list of dict
        One a contender: seconds of a step, and over those of a step without measurement.
    """
    import torch
    from torch import nn

    from adam_minibatch_noise.noise_scale import NoiseScaleMeter

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    x, y = torch.randn(128, 256), torch.randint(10, (128,))
    loss_of = nn.CrossEntropyLoss()

    def step(
        after_part: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
    ) -> None:
        for rows, targets in zip(x.chunk(N_PARTS), y.chunk(N_PARTS), strict=True):
            (loss_of(model(rows), targets) / N_PARTS).backward()
            after_part()
        after()
        optimizer.step()
        optimizer.zero_grad()

    def whole(
        before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
    ) -> None:
        before()
        loss_of(model(x), y).backward()
        after()
        optimizer.step()
        optimizer.zero_grad()

    every = NoiseScaleMeter(model, 128, every=1)
    some = NoiseScaleMeter(model, 128, every=10)
    half = NoiseScaleMeter(model, 128)

    def take_half() -> None:
        half.half_batch(lambda part: loss_of(model(x[part]), y[part]))

    jobs: dict[str, Callable[[], object]] = {
        "accumulation": step,
        "meter, every step": lambda: step(every.micro_batch, every.step),
        "meter, one step in 10": lambda: step(some.micro_batch, some.step),
        "one backward pass": whole,
        "meter, half a batch, default": lambda: whole(take_half, half.step),
    }
    peers = _peer_jobs(model, step, whole, lambda: nn.functional.cross_entropy(model(x), y, reduction="none"))
    jobs |= peers
    n_steps = 32  # two measurements of half a batch
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(n_turns + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            for _ in range(n_steps):
                job()
            if turn:  # the first warms up
                times[name].append((time.perf_counter() - begin) / n_steps)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    whole_names = ("one backward pass", "meter, half a batch, default", "gns-pytorch, one step in 100")
    return [
        {
            "contender": name,
            "seconds": value,
            "over_plain": value / seconds["one backward pass" if name in whole_names else "accumulation"],
        }
        for name, value in seconds.items()
    ]


def _peer_jobs(
    model: Any, step: Any, whole: Any, losses: Callable[[], Any]
) -> dict[str, Callable[[], object]]:
    from gns_pytorch import compute_gns
    from traintools.gradnoise import GradientAccumulationGNS

    peer, count = GradientAccumulationGNS(model, 32), [0]

    def close() -> None:
        peer.compute()
        peer.reset_accumulation()

    def sometimes() -> None:
        count[0] += 1
        if count[0] % 100 == 1:
            compute_gns(losses(), model)

    return {
        "traintools, every step": lambda: step(peer.record_microbatch, close),
        "gns-pytorch, one step in 100": lambda: whole(sometimes),
    }


def main(argv: list[str] | None = None) -> None:
    """Compare, print and write."""
    args = parser().parse_args(argv)
    from importlib.util import find_spec

    from adam_minibatch_noise.errors import InputError

    missing = [name for name in ("traintools", "gns_pytorch") if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed, needed: the dependency group bench")
    import torch

    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        rows += accuracy(case, args.n_repeats, args.n_steps)
        print(_table(rows[-len(CONTENDERS) :]), flush=True)
    costs = cost(args.n_turns)
    print(_table(costs))
    rows += costs
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(args.out) as file:
        file.write(text.getvalue())


def _table(rows: list[dict[str, Any]]) -> str:
    return to_table(list(rows[0]), rows)


if __name__ == "__main__":
    run(main)
