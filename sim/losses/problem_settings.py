"""The settings that name a problem, shared by the studies at a fixed point."""

from dataclasses import dataclass

from adam_minibatch_noise.errors import InputError
from common.settings import COUNT, NONNEGATIVE, SEED, setting
from sim.losses.problem_files import load_problem
from sim.losses.problems import GENERATORS, Problem

_GENERATED = {"problem_file": (None,)}


@dataclass(frozen=True)
class ProblemSettings:
    """A generated problem, or one from a file."""

    problem: str = setting(
        "least-squares", "generator", choices=tuple(GENERATORS), group="problem", only_with=_GENERATED
    )
    problem_file: str | None = setting(
        None,
        "your own problem, an .npz file: per-sample gradients (N, d) and hessians (N, d, d) of any loss, or least "
        "squares from features (N, d), targets (N,) and theta (d,)",
        str,
        group="problem",
    )
    n_samples: int = setting(
        1024, "N of the generator", COUNT, unit="samples", group="problem", only_with=_GENERATED
    )
    n_params: int = setting(
        64, "d of the generator", COUNT, unit="parameters", group="problem", only_with=_GENERATED
    )
    noise: float = setting(
        0.02, "relative spread of a generated sample", NONNEGATIVE, group="problem", only_with=_GENERATED
    )
    problem_seed: int = setting(0, "seed of the generator", SEED, group="problem", only_with=_GENERATED)

    @property
    def problem_name(self) -> str:
        """The file or the generator."""
        return self.problem_file or self.problem


def make_problem(settings: ProblemSettings, batch_size: int) -> Problem:
    """Make or read a problem.

    Parameters
    ----------
    settings : ProblemSettings
    batch_size : int
        A divisor of its number of samples.

    Returns
    -------
    LeastSquares or Quadratics

    Raises
    ------
    InputError
        If the file cannot be used, or `batch_size` does not divide the number of samples.
    """
    if settings.problem_file is not None:
        problem = load_problem(settings.problem_file)
    else:
        s = settings
        problem = GENERATORS[s.problem](s.n_samples, s.n_params, s.noise, s.problem_seed)
    check_batch_size(batch_size, problem.n_samples)
    return problem


def check_batch_size(batch_size: int, n_samples: int) -> None:
    """Raise InputError if `batch_size` does not divide the number of samples."""
    if n_samples % batch_size:
        raise InputError(f"--batch-size is {batch_size}, allowed: a divisor of the {n_samples} samples")
