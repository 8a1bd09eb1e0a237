"""Plan what the sweeps of a configuration cost: jobs, GPU-hours, wall time on 1, 8 and 64 GPUs.

A job is a panel: all betas and seeds at one batch size and learning rate, trained one after another on one GPU. What
is not measured is a flag, and its default a stated assumption:

- speed: tokens per second of training, from `training_batch_sizes.csv` of `bench.training` if one lies in records/;
- length: a run ends `patience` epochs after its smallest validation loss, at `n_epochs` at the latest. That loss is
  taken to come after `--steps-to-minimum` steps at learning rate 1e-3, in inverse proportion to the learning rate
  (Adam moves every weight by about lr a step), and after `--epochs-to-minimum` epochs at the earliest.

Wall time: the longest job first, each to the GPU that is free first; no job waits for the cluster.
"""

import argparse
import csv
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, allow_only, run, write_result
from common.files import to_table
from common.settings import COUNT, NONNEGATIVE, POSITIVE

N_TOKENS = {"wikitext-2": (2_088_628, 217_646)}
"""Tokens of the training and of the validation split."""
EVALUATION_SPEEDUP = 3.0
"""Tokens per second of an evaluation over those of training: a forward pass is a third of the work."""
REFERENCE_LR = 1e-3
"""Learning rate to which --steps-to-minimum belongs."""
N_GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Panel:
    """A job of the sweep.

    Attributes
    ----------
    curve : str
        Which beta is swept.
    batch_size : int
    lr : float
    n_runs : int
        Betas times seeds.
    n_epochs : float
        Of each run.
    hours : float
        Of one GPU, for all runs.
    """

    curve: str
    batch_size: int
    lr: float
    n_runs: int
    n_epochs: float
    hours: float


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.cost_plan", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--config", default="config/full.yaml", metavar="FILE", help="on top of config/config.yaml"
    )
    parser.add_argument(
        "--speeds",
        metavar="CSV",
        help="written by bench.training; None: the newest in records/, if there is one",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=POSITIVE,
        default=3e5,
        help="of training, instead of a CSV; assumed if there is none",
    )
    parser.add_argument(
        "--steps-to-minimum", type=POSITIVE, default=1000, help="at learning rate 1e-3; assumed"
    )
    parser.add_argument("--epochs-to-minimum", type=NONNEGATIVE, default=8, help="at least; assumed")
    parser.add_argument("--n-gpus", type=COUNT, nargs="+", default=list(N_GPUS), help="for the wall time")
    add_output_flags(parser)
    return parser


def measured_speed(path: str | None, micro_batch_size: int) -> tuple[float, str] | None:
    """Read tokens per second at the largest measured batch that is not above the micro-batch.

    Parameters
    ----------
    path : str, optional
        None: the last of records/**/training_batch_sizes.csv, in order of name.
    micro_batch_size : int

    Returns
    -------
    (float, str), optional
        Speed and where it was found; None if nothing was measured.
    """
    found = [Path(path)] if path else sorted(Path("records").glob("**/*training_batch_sizes.csv"))
    if not found:
        return None
    with open(found[-1], encoding="utf-8", newline="") as file:
        try:
            rows = [(int(row["batch_size"]), float(row["tokens_per_second"])) for row in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{found[-1]}: no table of batch_size and tokens_per_second ({error})"
            ) from error
    below = [row for row in rows if row[0] <= micro_batch_size and row[1] > 0]
    if not below:
        raise InputError(f"{found[-1]}: no speed at a batch size <= {micro_batch_size}")
    return max(below)[1], str(found[-1])


def epochs(
    settings: dict[str, Any], batch_size: int, lr: float, steps_to_minimum: float, epochs_to_minimum: float
) -> float:
    """Return how many epochs a run is taken to last (see the head of this file)."""
    n_windows = (N_TOKENS[settings["corpus"]][0] - 1) // settings["tgt_len"]
    steps_per_epoch = max(n_windows // batch_size, 1)
    to_minimum = max(steps_to_minimum * REFERENCE_LR / lr / steps_per_epoch, epochs_to_minimum)
    patience = settings["patience"] / settings["evaluations_per_epoch"]
    return min(to_minimum + patience, settings["n_epochs"])


def panels(
    sweep: dict[str, Any], speed: float, steps_to_minimum: float, epochs_to_minimum: float
) -> list[Panel]:
    """List the jobs of a sweep with their hours.

    Parameters
    ----------
    sweep : dict
        Section train.sweep of a configuration.
    speed : float
        Tokens per second of training.
    steps_to_minimum, epochs_to_minimum : float

    Raises
    ------
    InputError
        If the size of the corpus is not known here.
    """
    settings = sweep["settings"]
    if settings["corpus"] not in N_TOKENS:
        raise InputError(f"corpus is {settings['corpus']!r}, allowed: {', '.join(N_TOKENS)}")
    n_train, n_valid = N_TOKENS[settings["corpus"]]
    tokens = n_train + settings["evaluations_per_epoch"] * n_valid / EVALUATION_SPEEDUP
    jobs = []
    for curve, betas in sweep["curves"].items():
        n_runs = len(betas["beta1"]) * len(betas["beta2"]) * len(sweep["seed"])
        for lr in sweep["lr"]:
            for batch_size in sweep["batch_size"]:
                n_epochs = epochs(settings, batch_size, lr, steps_to_minimum, epochs_to_minimum)
                hours = n_runs * n_epochs * tokens / speed / 3600
                jobs.append(Panel(curve, batch_size, lr, n_runs, n_epochs, hours))
    return jobs


def makespan(hours: Iterable[float], n_gpus: int) -> float:
    """Return the hours until all jobs are done, the longest first, each on the GPU that is free first."""
    jobs = sorted(hours, reverse=True)
    free = [0.0] * min(n_gpus, max(len(jobs), 1))
    for job in jobs:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def plan(jobs: Sequence[Panel], n_gpus: Sequence[int]) -> list[dict[str, Any]]:
    """Add up each curve and all of them: jobs, runs, GPU-hours, wall time in days on each number of GPUs."""
    groups = {
        curve: [job for job in jobs if job.curve == curve] for curve in dict.fromkeys(j.curve for j in jobs)
    }
    rows = []
    for name, group in [*groups.items(), ("all", list(jobs))]:
        hours = [job.hours for job in group]
        days = {f"days_on_{n}": makespan(hours, n) / 24 for n in n_gpus}
        totals = {"jobs": len(group), "runs": sum(job.n_runs for job in group), "gpu_hours": sum(hours)}
        rows.append({"curve": name, **totals, "longest_job_hours": max(hours), **days})
    return rows


def main(argv: list[str] | None = None) -> None:
    """Read the configuration, plan, print."""
    args = parser().parse_args(argv)
    allow_only(args, ["tokens_per_second"], args.speeds is None, "without --speeds")
    from common.config import check, load

    config = load("config/config.yaml", args.config)
    check(config, "config/config.schema.yaml")
    sweep = config["train"]["sweep"]
    micro = sweep["settings"].get("micro_batch_size") or min(sweep["batch_size"])
    if "tokens_per_second" in args.given:
        speed, source = args.tokens_per_second, "--tokens-per-second"
    else:
        speed, source = measured_speed(args.speeds, micro) or (args.tokens_per_second, "assumed")
    jobs = panels(sweep, speed, args.steps_to_minimum, args.epochs_to_minimum)
    rows = plan(jobs, args.n_gpus)
    assumptions = {
        "tokens_per_second": speed,
        "source_of_the_speed": source,
        "steps_to_minimum": args.steps_to_minimum,
        "epochs_to_minimum": args.epochs_to_minimum,
    }
    lines = [
        f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in assumptions.items()
    ]
    table = to_table(list(rows[0]), rows)
    write_result(args, rows=rows, value={**assumptions, "plan": rows}, table="\n".join([*lines, table]))


if __name__ == "__main__":
    run(main)
