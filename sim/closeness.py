"""Measure how far the memoryless iteration strays from the optimiser with memory (Theorem 2.3).

The largest distance (2-norm) between the two trajectories is measured over several decades of the learning
rate, at fixed learning rate times steps, with the correction lr^2 Corr_t and without it. Batches are drawn
without replacement, reshuffled every epoch, and are the same for all three iterations. The theorem says O(lr^2)
with and O(lr) without: accepted is a log-log slope, fitted over all learning rates, within 0.1 of 2 and of 1;
`sim.memory.closeness_study` says when a slope that is off decides nothing.
Exit status 0: all are accepted; 1: a slope is off (said on standard error where that decides nothing); 2: bad usage.
"""

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, settings_of
from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.optimizer_flag import read_optimizer
from common.settings import POSITIVE, SEED, Number, from_flags, inherited, setting, used
from sim.losses.optimizer_settings import OPTIMIZER_COLUMNS, OptimizerSettings
from sim.losses.problems import GENERATORS

if TYPE_CHECKING:
    from adam_minibatch_noise.expansion.update_rule import UpdateRule
    from sim.memory.closeness_study import Curve

PROBLEMS = (*GENERATORS, "cnn")
DEFAULT = ("sgd-momentum", "adam")
OPTIMIZERS = optimizer_names()
SETTINGS = OPTIMIZER_COLUMNS[1:]


def _of(name: str, default: float) -> Any:
    return inherited(OptimizerSettings, name, default=default)


@dataclass(frozen=True)
class Settings:
    """Problems and optimisers, and the learning rates of their runs."""

    problem: str = setting("all", "per-sample losses", choices=(*PROBLEMS, "all"))
    optimizer: tuple[str, ...] = setting(
        DEFAULT, "with memory; help: lists each with its settings", read_optimizer, choices=OPTIMIZERS
    )
    beta1: float = _of("beta1", 0.9)
    beta2: float = _of("beta2", 0.95)
    beta3: float = _of("beta3", 0.98)
    eps_root: float = _of("eps_root", 1e-3)
    eps: float = _of("eps", 0.0)
    delta: float = _of("delta", 0.1)
    alpha: float = _of("alpha", 2.0)
    power: float = _of("power", 3.0)
    weight_decay: float = _of("weight_decay", 0.1)
    micro_batch_size: int = inherited(OptimizerSettings, "micro_batch_size", default=1)
    lr_max: float = setting(3e-4, "largest learning rate", POSITIVE)
    n_decades: float = setting(3.0, "range of learning rates", POSITIVE, unit="decades")
    n_lr: int = setting(7, "number of learning rates", Number(int, 3, 100))
    horizon: float = setting(0.05, "learning rate times steps", POSITIVE)
    seed: int = setting(0, "seed of problems and batches", SEED)


EXAMPLES = (
    "python -m sim.closeness --problem cnn --optimizer adam",
    "python -m sim.closeness --problem quadratics --optimizer nadam lion-smooth --beta1 0.5 --beta2 0.6 "
    "--eps-root 0.01 --lr-max 5e-4 --n-decades 1 --n-lr 3 --horizon 0.02",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.closeness", __doc__, Settings, EXAMPLES, threads=True)


def main(argv: list[str] | None = None) -> int:
    """Measure, fit, write; return 1 if a slope is not accepted."""
    args = parser().parse_args(argv)
    s = from_flags(Settings, args)
    from tqdm import tqdm

    from sim.memory.closeness_study import EXPECTED_SLOPE, measure_curves
    from sim.memory.order_of_error import learning_rates

    problems = PROBLEMS if s.problem == "all" else (s.problem,)
    rules = [rule_of(s, name) for name in s.optimizer]
    lr, n_steps = learning_rates(s.lr_max, s.n_decades, s.n_lr, s.horizon)
    total = len(problems) * len(rules) * len(EXPECTED_SLOPE) * int(n_steps.sum())
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        curves = measure_curves(
            problems, rules, lr, n_steps, s.seed, bar.update, args.n_threads, s.micro_batch_size
        )
    write_result(args, **forms(curves, s))
    n_undecided = sum(curve.verdict == "undecided" for curve in curves)
    if n_undecided:
        print(
            f"{n_undecided} of {len(curves)} slopes are undecided: the learning rates are too large or too few to "
            "show the order of the distance as they fall to 0",
            file=sys.stderr,
        )
    return int(any(curve.verdict != "accepted" for curve in curves))


def rule_of(settings: Settings, name: str) -> "UpdateRule":
    """Make the update rule of one of the optimisers."""
    if name not in OPTIMIZERS or settings.optimizer.count(name) > 1:
        raise InputError(f"--optimizer has {name}, allowed: each once of {', '.join(OPTIMIZERS)}")
    return make_rule(name, {key: getattr(settings, key) for key in settings_of(name)})


def recorded(settings: Settings) -> dict[str, Any]:
    """Return the settings that were used as columns of a table, the others empty."""
    row = used(settings)
    return {name: row[name] for name in (*SETTINGS, "horizon", "seed")}


def rows(curves: "list[Curve]", settings: Settings) -> list[dict[str, Any]]:
    """Return one CSV row a point: what was measured, the slope of its curve, the settings of its optimiser."""
    return [
        {
            **{name: getattr(curve, name) for name in ("problem", "optimizer", "correction")},
            "lr": float(lr),
            "n_steps": int(n_steps),
            "distance": float(gap),
            "slope": curve.slope,
            "slope_stderr": curve.stderr,
            **recorded(replace(settings, optimizer=(curve.optimizer,))),
        }
        for curve in curves
        for lr, n_steps, gap in zip(curve.lr, curve.n_steps, curve.distance, strict=True)
    ]


def summary(curve: "Curve") -> dict[str, Any]:
    """Return the fit of one curve and its verdict."""
    from sim.memory.closeness_study import EXPECTED_SLOPE

    return {
        **{name: getattr(curve, name) for name in ("problem", "optimizer", "correction", "slope")},
        "slope_stderr": curve.stderr,
        "last_slope": curve.last_slope,
        "expected": EXPECTED_SLOPE[curve.correction],
        "verdict": curve.verdict,
    }


def forms(curves: "list[Curve]", settings: Settings) -> dict[str, Any]:
    """Return the curves as `write_result` takes them, in every form."""
    points, fits = rows(curves, settings), [summary(curve) for curve in curves]
    return {
        "rows": points,
        "value": {**recorded(settings), "slopes": fits, "points": points},
        "table": to_table(list(fits[0]), fits),
    }


if __name__ == "__main__":
    run(main)
