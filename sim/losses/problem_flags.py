"""The flags that name a problem, shared by the studies at a fixed point."""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.settings import BETA, COUNT, NONNEGATIVE, SEED, Number

if TYPE_CHECKING:
    from sim.losses.problems import Problem


FEWEST_PERMUTATIONS = 100
"""With fewer random orders 4 standard errors are no rule: estimated from the same few orders, they are too small too
often. With 4 orders a true formula was off by more in up to 20 of 100 runs, with 100 in 1 of 1000 or fewer."""
TOO_FEW = f"too few orders to call a formula violated, which takes --n-permutations {FEWEST_PERMUTATIONS}"
n_permutations = Number(int, 2)
"""Type of a number of random orders."""


def add_problem_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose a problem, a batch size and the betas."""
    group = parser.add_argument_group("problem")
    group.add_argument(
        "--problem", choices=["least-squares", "quadratics"], default="least-squares", help="generator"
    )
    group.add_argument(
        "--problem-file", metavar="P.npz", help="least squares from arrays features, targets, theta"
    )
    group.add_argument("--n-samples", type=COUNT, default=1024, help="samples N of the generator")
    group.add_argument("--n-params", type=COUNT, default=64, help="parameters d of the generator")
    group.add_argument(
        "--noise", type=NONNEGATIVE, default=0.02, help="relative spread of a generated sample"
    )
    group.add_argument("--problem-seed", type=SEED, default=0, help="seed of the generator")
    group = parser.add_argument_group("algorithm")
    group.add_argument("--batch-size", type=COUNT, default=16, help="samples a batch, a divisor of N")
    group.add_argument("--beta1", type=BETA, default=0.9, help="decay rate of the first moment, [0, 1)")
    group.add_argument("--beta2", type=BETA, default=0.999, help="decay rate of the second moment, [0, 1)")
    group.add_argument(
        "--eps-root", type=NONNEGATIVE, default=0.0, help="constant inside the square root, >= 0"
    )


def problem_from_flags(args: argparse.Namespace) -> "Problem":
    """Make or read the problem that the flags of `add_problem_flags` name.

    Raises
    ------
    InputError
        If the file cannot be used, or `batch_size` does not divide the number of samples.
    """
    from sim.losses.problems import GENERATORS, load_least_squares

    if args.problem_file is not None:
        problem = load_least_squares(args.problem_file)
    else:
        problem = GENERATORS[args.problem](args.n_samples, args.n_params, args.noise, args.problem_seed)
    if problem.n_samples % args.batch_size:
        raise InputError(
            f"--batch-size is {args.batch_size}, allowed: a divisor of the {problem.n_samples} samples"
        )
    return problem
