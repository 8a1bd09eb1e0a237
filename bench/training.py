"""Time a step of training beside its plain twin, in one run, and against the matrix-product rate of the device.

A step is gradient and update of one batch. Contenders take turns; a rate is the median of `--n-repeats` turns of
`--n-steps` steps. Before that, losses and gradients are compared. `plain` is `bench.peer_transformer` with
torch.optim.Adam; `ours` is `train.language.trainer`. Written to `--out`: training.csv (rates),
training_batch_sizes.csv (ours, against the batch size), training_parts.csv (share of time by part),
training_machine.json.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import Parser, run
from common.files import to_table, write_csv, write_json
from common.settings import COUNT

if TYPE_CHECKING:
    import torch

    from train.language.settings import Settings
    from train.language.trainer import Trainer

N_TOKEN = 33278
"""Size of the vocabulary of WikiText-2."""


def main(argv: list[str] | None = None) -> None:
    """Compare, time, write, print."""
    parser = Parser(prog="python -m bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=("published", "small"), help="None: published on cuda, else small")
    parser.add_argument("--batch-sizes", type=COUNT, nargs="+", help="None: 8 ... 512 on cuda, else 8 ... 64")
    parser.add_argument("--n-repeats", type=COUNT, default=7, help="turns of each contender")
    parser.add_argument("--n-steps", type=COUNT, help="steps of a turn; None: 10 on cuda, else 1")
    parser.add_argument("--n-threads", type=COUNT, default=1, help="of the CPU")
    parser.add_argument(
        "--out", type=Path, default=Path("results/bench"), metavar="FOLDER", help="of the results"
    )
    args = parser.parse_args(argv)

    import torch

    from common import provenance

    torch.set_num_threads(args.n_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    settings = sizes(args.sizes or ("published" if on_gpu else "small"))
    n_steps = args.n_steps or (10 if on_gpu else 1)
    rates = {dtype: product_rate(device, dtype) for dtype in ("float32", "bfloat16")}
    machine = {
        "product_rate": rates,
        "flop_per_token": flop_per_token(settings),
        **provenance.describe_device(device),
    }
    write_json(args.out / "training_machine.json", machine)

    rows = []
    for row in compare(settings, device, args.n_repeats, n_steps, rates):
        rows.append(row)
        write_csv(args.out / "training.csv", rows)
        print(f"{row['contender']}: {row['tokens_per_second']:,.0f} tokens/s", flush=True)
    fastest = rows[-1]["tokens_per_second"]
    print(to_table(tuple(rows[0]), [list(row.values()) for row in rows]))
    print("ours over each:", {row["contender"]: round(fastest / row["tokens_per_second"], 2) for row in rows})

    curve = []
    for batch_size in args.batch_sizes or ([8, 16, 32, 64, 128, 256, 512] if on_gpu else [8, 16, 32, 64]):
        trainer = make_trainer(replace(settings, batch_size=batch_size, dtype=best_dtype(device)), device)
        seconds = timed(ours(trainer), args.n_repeats, n_steps, device)
        speed = batch_size * settings.tgt_len / statistics.median(seconds)
        curve.append({"batch_size": batch_size, "tokens_per_second": speed})
        write_csv(args.out / "training_batch_sizes.csv", curve)
    print(to_table(("batch_size", "tokens_per_second"), [list(row.values()) for row in curve]))

    trainer = make_trainer(replace(settings, dtype=best_dtype(device)), device)
    parts = shares(trainer, args.n_repeats, n_steps, device)
    write_csv(args.out / "training_parts.csv", parts)
    print(to_table(("part", "share"), [list(row.values()) for row in parts]))


def sizes(name: str) -> "Settings":
    """Return the settings of the published model or of a small one."""
    from train.language.settings import Settings

    small = Settings(corpus="wikitext-2", tgt_len=32, batch_size=32, micro_batch_size=0, eps=1e-6)
    if name == "small":
        return small
    return replace(
        small,
        n_layer=6,
        n_head=8,
        d_model=512,
        d_head=64,
        d_inner=2048,
        tgt_len=128,
        dropout=0.1,
        batch_size=128,
    )


def best_dtype(device: "torch.device") -> str:
    """Type of the fastest products."""
    return "bfloat16" if device.type == "cuda" else "float32"


def flop_per_token(s: "Settings") -> float:
    """Operations of a training step a word: 6 a weight of each product, and the products of attention.

    Attention has three products over tgt_len keys (content, position, values) of 2 d_head operations a head and
    key, forward once and backward twice; keys in the future are counted too.
    """
    width = s.n_head * s.d_head
    weights = s.n_layer * (4 * s.d_model * width + 2 * s.d_model * s.d_inner) + N_TOKEN * s.d_model
    return 6.0 * weights + s.n_layer * 3 * 3 * 2 * s.tgt_len * width


def product_rate(device: "torch.device", dtype: str) -> float:
    """Measure operations a second of a square matrix product."""
    import torch

    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=getattr(torch, dtype))
    seconds = timed(lambda: a @ a, 7, 10 if device.type == "cuda" else 1, device)
    return 2 * n**3 / min(seconds)


def make_trainer(settings: "Settings", device: "torch.device") -> "Trainer":
    """Return a trainer on words drawn at random, as many as a few batches need."""
    import numpy as np

    from train.language.corpora import Corpus
    from train.language.trainer import Trainer

    n_words = 4 * settings.batch_size * settings.tgt_len + 1
    text = np.random.default_rng(0).integers(0, N_TOKEN, n_words)
    corpus = Corpus("random words", tuple(map(str, range(N_TOKEN))), text, text[:1000], text[:1000], "")
    trainer = Trainer(settings, corpus, device, compiled=device.type == "cuda")
    trainer.start(settings)
    return trainer


def ours(trainer: "Trainer") -> Callable[[], object]:
    """Return a step of `train.language.trainer` on its first batch."""
    import torch

    windows = torch.arange(trainer.settings.batch_size, device=trainer.device)

    def step() -> None:
        trainer.gradient(windows)
        trainer.optimizer.step()

    return step


def plain(trainer: "Trainer", dtype: str) -> Callable[[], object]:
    """Return a step of the plain twin, from the parameters of `trainer`, on its first batch."""
    import torch

    from bench.peer_transformer import PlainTransformerXL

    s, device = trainer.settings, trainer.device
    model = PlainTransformerXL(N_TOKEN, s.n_layer, s.n_head, s.d_model, s.d_head, s.d_inner, s.dropout)
    model.load_state_dict(trainer.model.state_dict())
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), s.lr, (s.beta1, s.beta2), s.eps)
    inputs, targets = trainer.inputs[: s.batch_size], trainer.targets[: s.batch_size]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = model(inputs, targets) / inputs.numel()
        loss.backward()
        optimizer.step()

    step.model = model
    return step


def check(trainer: "Trainer") -> float:
    """Return the largest relative difference of a gradient between ours and the twin, in float32 without dropout."""
    import torch

    twin = plain(trainer, "float32")
    trainer.model.eval()
    twin.model.eval()
    trainer.gradient(torch.arange(trainer.settings.batch_size, device=trainer.device))
    s = trainer.settings
    (
        twin.model(trainer.inputs[: s.batch_size], trainer.targets[: s.batch_size])
        / (s.batch_size * s.tgt_len)
    ).backward()
    trainer.model.train()
    others = dict(twin.model.named_parameters())
    return max(
        float((param.grad - others[name].grad).norm() / param.grad.norm())
        for name, param in trainer.model.named_parameters()
    )


def compare(
    settings: "Settings", device: "torch.device", n_repeats: int, n_steps: int, rates: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield the row of each contender, ours at its best last."""
    trainers = {
        dtype: make_trainer(replace(settings, dtype=dtype), device) for dtype in ("float32", "bfloat16")
    }
    difference = check(trainers["float32"])
    if difference > 1e-3:
        raise RuntimeError(f"a gradient differs from the twin's by {difference:.2g}")
    contenders = {
        ("plain", "float32"): plain(trainers["float32"], "float32"),
        ("plain", "bfloat16"): plain(trainers["bfloat16"], "bfloat16"),
        **{("ours", dtype): ours(trainer) for dtype, trainer in trainers.items()},
    }
    first, seconds = {}, {key: [] for key in contenders}
    for key, step in contenders.items():
        started = time.perf_counter()
        timed(step, 1, 1, device)
        first[key] = time.perf_counter() - started
    for _ in range(n_repeats):  # turns
        for key, step in contenders.items():
            seconds[key] += timed(step, 1, n_steps, device)
    order = sorted(contenders, key=lambda key: (key[0] == "ours", key[1] == best_dtype(device)))
    for name, dtype in order:
        low, median, high = statistics.quantiles(seconds[name, dtype] * (1 if n_repeats > 1 else 2), n=4)
        speed = settings.batch_size * settings.tgt_len / median
        yield {
            "contender": f"{name} {dtype}",
            "batch_size": settings.batch_size,
            "tokens_per_second": speed,
            "low": settings.batch_size * settings.tgt_len / high,
            "high": settings.batch_size * settings.tgt_len / low,
            "of_product_rate": speed * flop_per_token(settings) / rates[dtype],
            "first_step_s": first[name, dtype],
        }


def timed(step: Callable[[], object], n_repeats: int, n_steps: int, device: "torch.device") -> list[float]:
    """Return the seconds of a step, `n_repeats` times the mean over `n_steps`."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = []
    for _ in range(n_repeats):
        wait()
        started = time.perf_counter()
        for _ in range(n_steps):
            step()
        wait()
        seconds.append((time.perf_counter() - started) / n_steps)
    return seconds


def shares(trainer: "Trainer", n_repeats: int, n_steps: int, device: "torch.device") -> list[dict[str, Any]]:
    """Return the share of a step's time by part, from steps cut off after each part."""
    import torch

    s = trainer.settings
    windows = torch.arange(s.batch_size, device=device)
    inputs, targets = trainer.inputs[windows], trainer.targets[windows]
    hidden = (
        torch.compile(trainer.model.hidden, dynamic=False) if device.type == "cuda" else trainer.model.hidden
    )

    def layers() -> None:
        with trainer.autocast:
            hidden(inputs)

    def with_loss() -> None:
        with trainer.autocast:
            trainer.forward(inputs, targets, None)

    cuts = {
        "layers, forward": layers,
        "softmax and cross-entropy": with_loss,
        "layers, backward": lambda: trainer.gradient(windows),
        "update": ours(trainer),
    }
    rows, before = [], 0.0
    for step in cuts.values():
        timed(step, 2, 1, device)  # compiles
    medians = {
        name: statistics.median(timed(step, n_repeats, n_steps, device)) for name, step in cuts.items()
    }
    for name, seconds in medians.items():
        rows.append({"part": name, "share": max(seconds - before, 0.0) / medians["update"]})
        before = seconds
    return rows


if __name__ == "__main__":
    run(main)
