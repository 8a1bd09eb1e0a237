"""Time a step of small language models trained side by side beside the loop of one run, in one process.

A step is gradient and update of one batch of each run. Contenders take turns, a gradient is compared first, and the
least of `--n-repeats` processor times counts: on a machine at work on other things it was disturbed least. Prints a
table: microseconds a word of the loop of one run and of runs side by side, those of the update among them, and
microseconds a word of an evaluation.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from common.cli import Parser, run
from common.files import to_table
from common.settings import COUNT

COLUMNS = ("batch", "runs", "loop", "(update)", "side by side", "(update)", "faster", "evaluation")


def main(argv: list[str] | None = None) -> None:
    """Compare, time, print."""
    parser = Parser(prog="python -m bench.side_by_side", description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=COUNT, nargs="+", default=[8, 32, 128, 1024], help="windows")
    parser.add_argument("--n-repeats", type=COUNT, default=10, help="turns of each contender")
    args = parser.parse_args(argv)

    import torch

    torch.set_num_threads(1)
    rows = [time_one(batch_size, args.n_repeats) for batch_size in args.batch_sizes]
    print(to_table(COLUMNS, rows))
    n = 1024
    a = torch.ones(n, n)
    print(f"float32 products of {n} x {n}: {2 * n**3 / least({'': lambda: a @ a}, 20)[''] / 1e9:.0f} GFLOP/s")


def time_one(batch_size: int, n_repeats: int) -> list[str]:
    """Return the row of a batch size, times in microseconds a word."""
    import torch

    from train.language import corpora, side_by_side
    from train.language.settings import Settings
    from train.language.stacked import StackedModels
    from train.language.trainer import ALIGNMENT, Trainer

    settings = Settings(eps=1e-6, batch_size=batch_size)
    device = torch.device("cpu")
    n_runs = side_by_side.n_side_by_side(16, settings, device)
    trainer = Trainer(settings, corpora.load(settings.corpus), device)
    models, runs = StackedModels(trainer.model, ALIGNMENT, settings), []
    for seed in range(n_runs):
        trainer.start(replace(settings, seed=seed))
        runs.append(side_by_side.Run(settings, trainer.values.detach().clone()))
    models.arrange([each.param for each in runs])
    for each, values, grads in zip(runs, models.values, models.grads, strict=True):
        each.param.data, each.param.grad = values, grads
    windows = torch.randperm(len(trainer.inputs), generator=torch.Generator().manual_seed(0))[:batch_size]
    batches = trainer.inputs[windows].expand(n_runs, -1, -1), trainer.targets[windows].expand(n_runs, -1, -1)

    def update() -> None:
        for each in runs:
            each.optimizer.step()

    trainer.gradient(windows)
    models.gradient(*batches)  # the trainer holds the last run
    difference = (models.grads[-1] - trainer.values.grad).norm() / trainer.values.grad.norm()
    if difference > 1e-4:
        raise RuntimeError(f"a gradient differs by {difference:.2g}")
    n_words = batch_size * settings.tgt_len
    seconds = least(
        {
            "loop": lambda: trainer.gradient(windows),
            "loop, update": lambda: trainer.optimizer.step(),
            "side by side": lambda: models.gradient(*batches),
            "side by side, update": update,
            "evaluation": lambda: trainer.loss("valid"),
        },
        n_repeats,
    )
    loop = [1e6 * seconds[name] / n_words for name in ("loop", "loop, update")]
    beside = [1e6 * seconds[name] / n_words / n_runs for name in ("side by side", "side by side, update")]
    times = [sum(loop), loop[1], sum(beside), beside[1]]
    evaluation = 1e6 * seconds["evaluation"] / len(trainer.corpus.valid)
    shown = [f"{each:.1f}" for each in times]
    return [str(batch_size), str(n_runs), *shown, f"{times[0] / times[2]:.2f}", f"{evaluation:.1f}"]


def least(steps: dict[str, Callable[[], object]], n_repeats: int) -> dict[str, float]:
    """Return the least processor time of each step, in seconds; they take turns."""
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(n_repeats):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name] = min(seconds[name], time.process_time() - started)
    return seconds


if __name__ == "__main__":
    run(main)
