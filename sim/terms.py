r"""Measure each term of E[Corr_n] by itself and hold it against its closed form, in the limit and exactly.

--study terms    FB and MBN1 .. MBN5 of Proposition 3.3 of Cattaneo and Shigida (2026), or of another optimiser: noise
                 is switched on in the two places where the two noises of a term meet (`expansion.one_order`). For SGD
                 with momentum the two terms of the modified loss, |g|^2 and tr(Sigma).
--study lines    every product behind them (`expansion.second_order`), Proposition A.6 for Adam, the noise of a batch
                 with itself (measured with independent batches) apart from that of different batches (what is then
                 left); by enumeration.
--study moments  Lemma A.7, E d_i d_j = v Sigma_ij and E d_ij d_j = (v/2) dSigma_jj/dtheta_i, and -1/(m - 1) times
                 that for two batches; by enumeration.

Every order of the batches counts with its noise and with the opposite noise, so that odd orders of the noise cancel.
Accepted is, for every number: |measured - predicted_exact| <= 4 standard errors + a rigorous bound on noise of order
four and more + rounding. The bound is that of `expansion.bounds`: it majorises the power series of Corr_n,
coefficient by coefficient, so also any part of it; lines of different batches are a difference of two measurements
and get it twice. Lemma A.7 and SGD have no higher orders. Exit status 0: all accepted, or no bound exists because the
noise is too large, or one is off by fewer than 100 random orders, which decide nothing (both said on standard error);
1: a formula is violated; 2: bad usage.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.settings import COUNT, POSITIVE, Number, from_flags, inherited, setting
from sim.losses.optimizer_settings import OPTIMIZER_COLUMNS, OptimizerSettings, rule_of, used_by
from sim.losses.problem_settings import ProblemSettings, check_batch_size, make_problem
from sim.monte_carlo.averaging_settings import FEWEST_PERMUTATIONS, TOO_FEW, AveragingSettings

if TYPE_CHECKING:
    from sim.losses.problems import Quadratics
    from sim.monte_carlo.orders import Progress
    from sim.monte_carlo.term_results import Result

STUDIES = ("terms", "lines", "moments")
_GENERATED = {"problem_file": (None,), "cnn": (False,)}
_OF_TERMS, _OF_CORR = {"study": ("terms",)}, {"study": ("terms", "lines")}


@dataclass(frozen=True)
class Settings(AveragingSettings, OptimizerSettings, ProblemSettings):
    """A small problem, an optimiser, and what to measure."""

    problem: str = inherited(ProblemSettings, "problem", default="quadratics", only_with=_GENERATED)
    n_samples: int = inherited(ProblemSettings, "n_samples", default=64)
    n_params: int = inherited(ProblemSettings, "n_params", default=8, only_with=_GENERATED)
    noise: float = inherited(ProblemSettings, "noise", only_with=_GENERATED)
    batch_size: int = inherited(OptimizerSettings, "batch_size", default=4)
    optimizer: str = inherited(OptimizerSettings, "optimizer", only_with=_OF_CORR)
    method: str = inherited(AveragingSettings, "method", only_with=_OF_TERMS)
    n_permutations: int = inherited(AveragingSettings, "n_permutations", default=2000)
    cnn: bool = setting(
        False,
        "instead of --problem: --n-samples samples of the CNN",
        group="two-layer CNN",
        only_with={"problem_file": (None,)},
    )
    n_filters: int = setting(2, "filters a class", COUNT, group="two-layer CNN", only_with={"cnn": (True,)})
    patch_length: int = setting(
        4, "length of a patch", Number(int, 2), group="two-layer CNN", only_with={"cnn": (True,)}
    )
    study: str = setting("terms", "what to measure", choices=STUDIES, group="measurement")
    rho: tuple[float, ...] = setting(
        (),
        "scale the noise so that the largest relative noise of a batch is this; default: leave it",
        POSITIVE,
        group="measurement",
    )
    n_epochs: int = setting(
        1,
        "epochs, reshuffled; Corr is that of the last step",
        COUNT,
        unit="epochs",
        group="measurement",
        only_with=_OF_CORR,
    )


EXAMPLES = (
    "python -m sim.terms --n-params 4 --rho 0.001 --n-permutations 500",
    "python -m sim.terms --study lines --n-samples 6 --batch-size 2 --n-params 2 --beta1 0.8 --beta2 0.95 --rho 0.001",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.terms", __doc__, Settings, EXAMPLES)


def main(argv: list[str] | None = None) -> int:
    """Measure, compare, write; return 1 if a formula is violated."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    problem = make_quadratics(settings)
    from sim.losses.noise_summary import NO_BOUND_KNOWN, RADIUS, largest_noise, radius_of
    from sim.monte_carlo.term_results import off

    own = largest_noise(problem.gradients, settings.micro_batch_size or settings.batch_size)
    if settings.rho and own < 1e-12:
        raise InputError("--rho cannot scale a problem without noise")
    rhos = settings.rho or (own,)
    amplitudes: list[float | None] = [rho / own for rho in settings.rho] or [None]
    labels = recorded(settings, problem)
    rows = [
        labels | {"rho": rho} | row
        for rho, measured in zip(rhos, measure(problem, settings, amplitudes), strict=True)
        for result in measured
        for row in result.rows()
    ]
    outside = list(dict.fromkeys(row["rho"] for row in rows if row["excess"] is None))
    rho_max = float(RADIUS)
    if settings.study != "moments":
        rho_max = radius_of(rule_of(settings), problem.gradients.mean(axis=0))
    write_result(args, **forms(rows, labels, outside, rho_max))
    if any(rho < rho_max for rho in outside):
        print(NO_BOUND_KNOWN, file=sys.stderr)
    elif outside:
        print(
            f"no bound where rho is {rho_max:.3f} or more: the formulas are held to account below only",
            file=sys.stderr,
        )
    drawn = settings.study == "terms" and settings.method == "montecarlo"
    if off(rows) and drawn and settings.n_permutations < FEWEST_PERMUTATIONS:
        print(TOO_FEW, file=sys.stderr)
        return 0
    return int(off(rows))


def make_quadratics(settings: Settings) -> "Quadratics":
    """Make the problem that the settings name, every Hessian written out."""
    from sim.losses.cnn_problem import cnn_problem
    from sim.losses.problems import LeastSquares
    from sim.monte_carlo.orders import CHUNK

    s = settings
    n_params = 2 * s.n_filters * s.patch_length if s.cnn else s.n_params
    if s.problem_file is None and s.n_samples * n_params**2 > 64 * CHUNK:
        raise InputError(f"--n-samples is {s.n_samples}, allowed: n_samples n_params^2 <= {64 * CHUNK}")
    if s.cnn:
        check_batch_size(s.batch_size, s.n_samples)
        return cnn_problem(s.n_samples, s.n_filters, s.patch_length, s.problem_seed)
    problem = make_problem(s, s.batch_size)
    if problem.n_samples * problem.n_params**2 > 64 * CHUNK:
        raise InputError(f"{s.problem_file}: is too large, allowed: n_samples n_params^2 <= {64 * CHUNK}")
    return problem.quadratics() if isinstance(problem, LeastSquares) else problem


def measure(
    problem: "Quadratics", settings: Settings, amplitudes: list[float | None]
) -> "list[list[Result]]":
    """Run the study at each amplitude of the noise (None: as it is), showing progress."""
    from tqdm import tqdm

    total = len(amplitudes) * count_orders(problem, settings)
    with tqdm(total=total, unit=" orders", unit_scale=True, disable=None, leave=False) as bar:
        return [
            run_study(problem if amplitude is None else problem.with_noise(amplitude), settings, bar.update)
            for amplitude in amplitudes
        ]


def count_orders(problem: "Quadratics", settings: Settings) -> int:
    """Return how many orders a study evaluates."""
    from sim.monte_carlo import orders

    size = problem.n_samples, settings.micro_batch_size or settings.batch_size
    if settings.study == "moments":
        return orders.count_orders(*size)
    if settings.study == "lines":
        n, b = problem.n_samples, settings.batch_size
        apart = orders.count_independent_orders(n, b, n // b * settings.n_epochs, settings.micro_batch_size)
        return orders.count_orders(*size, settings.n_epochs) + apart
    if settings.method == "enumerate":
        return orders.count_orders(*size, settings.n_epochs)
    return settings.n_permutations


def run_study(problem: "Quadratics", settings: Settings, progress: "Progress") -> "list[Result]":
    """Measure and predict what the settings ask for."""
    from sim.monte_carlo import term_studies

    s = settings
    if s.study == "moments":
        return term_studies.moments(problem, s.batch_size, progress)
    rule = rule_of(s)
    if s.study == "lines":
        return term_studies.lines(problem, rule, s.batch_size, s.n_epochs, progress, s.micro_batch_size)
    orders = (s.n_permutations if s.method == "montecarlo" else None), s.seed
    return term_studies.terms(problem, rule, s.batch_size, s.n_epochs, *orders, progress, s.micro_batch_size)


def recorded(settings: Settings, problem: "Quadratics") -> dict[str, Any]:
    """Return the settings that were used as columns of a table, the others empty."""
    row = used_by(settings)
    names = ("problem_seed", "batch_size", "n_epochs", *OPTIMIZER_COLUMNS, "method", "seed")
    return {
        "study": settings.study,
        "problem": "cnn" if settings.cnn else settings.problem_name,
        "n_samples": problem.n_samples,
        "n_params": problem.n_params,
    } | {name: row[name] for name in names}


def forms(
    rows: list[dict[str, Any]], settings: dict[str, Any], outside: list[float], rho_max: float
) -> dict[str, Any]:
    """Return the rows as `write_result` takes them, in every form; `outside` are the rho without a bound."""
    from sim.losses.noise_summary import NO_BOUND_KNOWN, range_notice

    columns = [name for name in rows[0] if name not in settings]
    judged = [row["excess"] for row in rows if row["excess"] is not None]
    notices = [f"largest excess {max(judged):.3g} (violated above 1)"] if judged else []
    too_much = [rho for rho in outside if rho >= rho_max]
    notices += [range_notice(rho if rho < float("inf") else None, rho_max) for rho in too_much]
    notices += [NO_BOUND_KNOWN] if len(too_much) < len(outside) else []
    value = settings | {"rho_max": rho_max, "rho_outside_range": outside}
    value |= {"rows": [{name: row[name] for name in columns} for row in rows]}
    return {"rows": rows, "value": value, "table": "\n".join([to_table(columns, rows), *notices])}


if __name__ == "__main__":
    run(main)
