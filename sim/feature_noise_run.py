"""Train the two-layer CNN by Adam or another optimiser, and measure what it fits: the signal, or samples' noise.

The defaults are the published study (arXiv:2510.11354), batch 2, AdamW. A sample counts as an error if its margin is
not positive, so a tie is an error. Alignments are max_r <w_jr, j v>, the smaller of the two classes, and
min_i max_r <w_{y_i r}, xi_i>. With --n-seeds, runs of consecutive seeds; threads are shared among them.
"""

from dataclasses import dataclass, replace

from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.settings import COUNT, from_flags, setting
from sim.feature_noise import settings as run_settings

SHOWN = ("seed", "step", "loss", "train_error", "test_error", "signal_plus", "signal_minus", "noise")


@dataclass(frozen=True)
class Settings(run_settings.Settings):
    """A run, and how many seeds."""

    n_seeds: int = setting(1, "runs, of seeds --seed, --seed + 1, ...", COUNT, group="run")


EXAMPLES = (
    "python -m sim.feature_noise_run --n-samples 16 --patch-length 81 --n-noise 16 --noise-std 0.25 --n-filters 4 "
    "--lr 1e-4 --n-epochs 200 --n-test 100",
    "python -m sim.feature_noise_run --batch-size 100 --optimizer invariant-adamw --micro-batch-size 2 --n-steps 20000",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.feature_noise_run", __doc__, Settings, EXAMPLES, threads=True)


def main(argv: list[str] | None = None) -> None:
    """Run, write."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    settings.check()
    from tqdm import tqdm

    from sim.feature_noise.tables import columns, run_end
    from sim.feature_noise.training import train
    from sim.monte_carlo.parallel_mean import in_threads

    runs = [replace(settings.run, seed=settings.seed + i) for i in range(settings.n_seeds)]
    total = settings.n_seeds * settings.total_steps
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        records = list(in_threads(lambda one: train(one, bar.update), runs, args.n_threads))
    every = [columns(one) | row for one, rows in zip(runs, records, strict=True) for row in rows]
    ends = [run_end(one, rows) for one, rows in zip(runs, records, strict=True)]
    write_result(
        args,
        rows=every,
        value=ends[0] if len(ends) == 1 else {"runs": ends},
        table=to_table(SHOWN, every),
    )


if __name__ == "__main__":
    run(main)
