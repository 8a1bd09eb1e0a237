"""Measure how far the memoryless iteration strays from the algorithm with memory (Theorem 2.3).

The largest distance (2-norm) between the two trajectories is measured over several decades of the learning
rate, at fixed learning rate times steps, with the correction lr^2 Corr_t and without it. Batches are drawn
without replacement, reshuffled every epoch, and are the same for all three iterations. The theorem says O(lr^2)
with and O(lr) without: accepted is a log-log slope, fitted over all learning rates, within 0.1 of 2 and of 1.
Exit status 0: all are accepted; 1: a slope is off (said on standard error where that decides nothing); 2: bad usage.

The slopes are those of lr -> 0: the largest learning rate must leave several times more steps than the memory
1/(1 - beta2) is long, or the fit is off while `last_slope`, at the smallest learning rates, is not. Such runs decide
nothing: a slope that is off is a violation only if `last_slope` is off too, the points lie on a line (off by more
than 4 standard errors of the fit besides), and the smallest learning rate leaves 100 times the memory. At the small
end the distance must stay above rounding (`sim.memory.memoryless.distance` refuses it otherwise).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, Number

if TYPE_CHECKING:
    import numpy as np

    from adam_minibatch_noise.theory import Array
    from sim.losses.landscapes import Landscape
    from sim.memory.memoryless import Algorithm

PROBLEMS = ("least-squares", "quadratics", "cnn")
ALGORITHMS = ("sgd-momentum", "adam")
EXPECTED_SLOPE = {"with": 2.0, "without": 1.0}
"""Order of the distance in lr, with and without Corr (Theorem 2.3)."""
TOLERANCE = 0.1
"""Accepted error of a slope, fixed before any run."""
N_STDERR, N_MEMORIES = 4.0, 100
"""A slope that is off by less, besides, or at fewer steps in units of the memory, decides nothing."""
N_SAMPLES, BATCH_SIZE = 12, 2
"""6 batches an epoch out of 66 possible ones: small, so that past batches at the current theta are few."""
MAX_STEPS = 1_000_000
"""Most steps of a run: its trajectory is held in memory."""


@dataclass(frozen=True)
class Curve:
    """Distance against learning rate for one problem, algorithm and iteration.

    Attributes
    ----------
    problem, algorithm : str
        One of `PROBLEMS`, of `ALGORITHMS`.
    correction : {"with", "without"}
        Whether the memoryless iteration has lr^2 Corr_t.
    lr, distance : (n_lr,) ndarray
        Falling learning rates; largest distance between the trajectories, 2-norm.
    n_steps : (n_lr,) ndarray of int
    slope, stderr : float
        Of log distance against log lr, least squares over all points.
    memory : float
        Length of the algorithm's memory in steps, 1/(1 - beta).
    """

    problem: str
    algorithm: str
    correction: str
    lr: "Array"
    n_steps: "np.ndarray"
    distance: "Array"
    slope: float
    stderr: float
    memory: float

    @property
    def last_slope(self) -> float:
        """Slope between the two smallest learning rates: off too, if the fit is and not for want of range."""
        import numpy as np

        return float(np.diff(np.log(self.distance[-2:]))[0] / np.diff(np.log(self.lr[-2:]))[0])

    @property
    def verdict(self) -> str:
        """One of "accepted", "violated", "undecided"."""
        off, last_off = (abs(x - EXPECTED_SLOPE[self.correction]) for x in (self.slope, self.last_slope))
        if off <= TOLERANCE:
            return "accepted"
        is_line = off > TOLERANCE + N_STDERR * self.stderr
        is_long = self.n_steps[-1] >= N_MEMORIES * self.memory
        return "violated" if last_off > TOLERANCE and is_line and is_long else "undecided"


def make_landscape(problem: str, seed: int) -> "Landscape":
    """Make the small instance of a problem on which trajectories are compared.

    Parameters
    ----------
    problem : {"least-squares", "quadratics", "cnn"}
        5 parameters and a relative spread of a sample of 0.5; the CNN has 2 filters a class of length 4, q = 3.
    seed : int
        >= 0.

    Returns
    -------
    Landscape
        Of `N_SAMPLES` samples.
    """
    from sim.losses import cnn
    from sim.losses.landscapes import cnn_landscape, quadratic_landscape
    from sim.losses.problems import GENERATORS

    if problem == "cnn":
        data = cnn.make_data(N_SAMPLES, 4, n_noise=2, noise_std=0.7, feature_noise=0.2, seed=seed)
        return cnn_landscape(cnn.make_weights(2, 4, init_std=0.5, seed=seed), data)
    return quadratic_landscape(GENERATORS[problem](N_SAMPLES, 5, 0.5, seed))


def learning_rates(lr_max: float, n_decades: float, n_lr: int, horizon: float) -> "tuple[Array, np.ndarray]":
    """Choose learning rates at even ratios, each a whole number of steps from `horizon` = lr * n_steps.

    Parameters
    ----------
    lr_max, n_decades, horizon : float
        > 0.
    n_lr : int
        >= 3.

    Returns
    -------
    lr : (n_lr,) ndarray
        Falling.
    n_steps : (n_lr,) ndarray of int

    Raises
    ------
    InputError
        If a run would have no step or more than `MAX_STEPS`.
    """
    import numpy as np

    n_steps = horizon / lr_max * 10 ** np.linspace(0, n_decades, n_lr)
    if not (n_steps[0] >= 0.5 and n_steps[-1] <= MAX_STEPS):
        raise InputError(
            f"--horizon {horizon:g} at learning rates {lr_max:g} to {lr_max * 10**-n_decades:.3g} takes "
            f"{n_steps[0]:.3g} to {n_steps[-1]:.3g} steps, allowed: 1 to {MAX_STEPS}"
        )
    n_steps = np.rint(n_steps).astype(int)
    if len(np.unique(n_steps)) < n_lr:
        raise InputError(f"--n-lr is {n_lr}, allowed: fewer, or no two runs of the same number of steps")
    return horizon / n_steps, n_steps


def fit_slope(lr: "Array", distances: "Array") -> tuple[float, float]:
    """Fit a straight line to log distance against log lr by least squares.

    Parameters
    ----------
    lr, distances : (n_lr,) ndarray
        > 0; n_lr >= 3.

    Returns
    -------
    slope, stderr : float
        The standard error is that of equal independent errors of the logarithms.
    """
    import numpy as np

    x, y = np.log(lr) - np.log(lr).mean(), np.log(distances) - np.log(distances).mean()
    slope = x @ y / (x @ x)
    return float(slope), float(np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x)))


def study(args: argparse.Namespace, progress: Callable[[int], object]) -> list[Curve]:
    """Measure the curves that the flags ask for; the result does not depend on the number of threads.

    Parameters
    ----------
    args : Namespace
        Of `parser`.
    progress : callable
        Called with the number of steps of each run that is done.

    Returns
    -------
    list of Curve
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from sim.memory.memoryless import Algorithm, distance, draw_batches

    lr, n_steps = learning_rates(args.lr_max, args.n_decades, args.n_lr, args.horizon)
    batches = draw_batches(N_SAMPLES, BATCH_SIZE, n_steps[-1], args.seed)
    problems = {name: make_landscape(name, args.seed) for name in _chosen(args.problem, PROBLEMS)}
    algorithms = [
        Algorithm(name, args.beta1, args.beta2, args.eps_root) for name in _chosen(args.algorithm, ALGORITHMS)
    ]

    def measure(run: tuple[str, "Algorithm", str, int]) -> float:
        problem, algorithm, correction, i = run
        gap = distance(
            problems[problem], algorithm, batches[: n_steps[i]], lr[i], 1.0 if correction == "with" else 0.0
        )
        progress(int(n_steps[i]))
        return gap

    keys = [(p, a, c) for p in problems for a in algorithms for c in EXPECTED_SLOPE]
    runs = sorted(
        ((*key, i) for i in range(len(lr)) for key in keys), key=lambda run: -run[-1]
    )  # longest first
    with ThreadPoolExecutor(args.n_threads) as pool:
        try:
            gaps = dict(zip(runs, pool.map(measure, runs), strict=True))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    curves = []
    for key in keys:
        distances = np.array([gaps[*key, i] for i in range(len(lr))])
        fit = fit_slope(lr, distances)
        curves.append(Curve(key[0], key[1].name, key[2], lr, n_steps, distances, *fit, key[1].memory))
    return curves


def _chosen(name, names):
    return names if name == "all" else (name,)


def rows(curves: list[Curve], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one CSV row a point: what was measured, the slope of its curve, the settings."""
    return [
        {
            **{name: getattr(curve, name) for name in ("problem", "algorithm", "correction")},
            "lr": float(lr),
            "n_steps": int(n_steps),
            "distance": float(gap),
            "slope": curve.slope,
            "slope_stderr": curve.stderr,
            **settings,
        }
        for curve in curves
        for lr, n_steps, gap in zip(curve.lr, curve.n_steps, curve.distance, strict=True)
    ]


def summary(curve: Curve) -> dict[str, Any]:
    """Return the fit of one curve and its verdict."""
    return {
        **{name: getattr(curve, name) for name in ("problem", "algorithm", "correction", "slope")},
        "slope_stderr": curve.stderr,
        "last_slope": curve.last_slope,
        "expected": EXPECTED_SLOPE[curve.correction],
        "verdict": curve.verdict,
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.closeness", description=__doc__.split("\n\n")[0])
    parser.add_argument("--problem", choices=[*PROBLEMS, "all"], default="all", help="per-sample losses")
    parser.add_argument("--algorithm", choices=[*ALGORITHMS, "all"], default="all", help="with memory")
    parser.add_argument("--beta1", type=BETA, default=0.9, help="decay rate of the first moment, [0, 1)")
    parser.add_argument("--beta2", type=BETA, default=0.95, help="of Adam's second moment, [0, 1)")
    parser.add_argument("--eps-root", type=NONNEGATIVE, default=1e-3, help="inside Adam's root, >= 0")
    parser.add_argument("--lr-max", type=POSITIVE, default=3e-4, help="largest learning rate")
    parser.add_argument("--n-decades", type=POSITIVE, default=3.0, help="decades of learning rates")
    parser.add_argument("--n-lr", type=Number(int, 3, 100), default=7, help="number of learning rates")
    parser.add_argument("--horizon", type=POSITIVE, default=0.05, help="learning rate times steps")
    parser.add_argument("--seed", type=SEED, default=0, help="seed of problems and batches")
    parser.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    add_output_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, fit, write; return 1 if a slope is not accepted."""
    args = parser().parse_args(argv)
    from tqdm import tqdm

    _, n_steps = learning_rates(args.lr_max, args.n_decades, args.n_lr, args.horizon)
    n_curves = 2 * len(_chosen(args.problem, PROBLEMS)) * len(_chosen(args.algorithm, ALGORITHMS))
    total = n_curves * int(n_steps.sum())
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        curves = study(args, bar.update)
    names = ("beta1", "beta2", "eps_root", "horizon", "seed")
    write(curves, {name: getattr(args, name) for name in names}, args)
    n_undecided = sum(curve.verdict == "undecided" for curve in curves)
    if n_undecided:
        print(
            f"{n_undecided} of {len(curves)} slopes are undecided: the learning rates are too large or too few to "
            "show the order of the distance as they fall to 0",
            file=sys.stderr,
        )
    return int(any(curve.verdict != "accepted" for curve in curves))


def write(curves: list[Curve], settings: dict[str, Any], args: argparse.Namespace) -> None:
    """Write the curves in the form that the flags ask for."""
    points, fits = rows(curves, settings), [summary(curve) for curve in curves]
    write_result(
        args,
        rows=points,
        value={**settings, "slopes": fits, "points": points},
        table=to_table(list(fits[0]), [list(fit.values()) for fit in fits]),
    )


if __name__ == "__main__":
    run(main)
