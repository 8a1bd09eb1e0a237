"""Find the batch size at which the monotonicity of C_total in one of the betas turns, for finite epochs too.

C_total is mapped, in the limit and exact, at the last step of epoch 1, 2, 5, ..., for the true geometry of an
experiment; `expansion.turning_points` says what the turning points are. Empty: there is none at or
above --min-batch-size. All of it is second order in the noise; below the tables, and in JSON, it is said from which
lambda on the noise is certainly outside the range of the expansion.
"""

from dataclasses import dataclass
from typing import Any

from adam_minibatch_noise.expansion import turning_points as library
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, settings_of
from common.cli import Parser, make_parser, run, write_result
from common.files import to_table, write_csv
from common.optimizer_flag import read_optimizer
from common.settings import BETA, COUNT, POSITIVE, from_flags, inherited, setting
from sim.losses.optimizer_settings import OF_MICRO_BATCHES, OptimizerSettings, having

BETAS = ("beta2", "beta1")
SWEPT: dict[str, tuple[str, ...]] = {
    "beta1": ("beta2", "beta3"),
    "beta2": ("beta1", "beta3"),
    "beta3": ("beta1", "beta2"),
}
"""With which sweeps a beta has a value of its own."""
OPTIMIZERS = tuple(name for name in optimizer_names() if make_rule(name).is_scale_invariant)
"""The others have no C_total."""


def _fixed(name: str) -> Any:
    return inherited(OptimizerSettings, name, only_with={"sweeps": SWEPT[name]} | having(name))


@dataclass(frozen=True)
class Settings:
    """An experiment, and the betas, noise scales and epochs to look at."""

    n_samples: int = setting(16_317, "N; default: the windows of WikiText-2", COUNT, unit="samples")
    batch_sizes: tuple[int, ...] = setting(
        tuple(2**k for k in range(7, 15)), "of the map; above N: full batch", COUNT, unit="samples"
    )
    noise_scales: tuple[float, ...] = setting((1e2, 2e2, 3e2, 5e2, 1e3), "B_simple", POSITIVE, unit="samples")
    n_epochs: tuple[int, ...] = setting((1, 2, 5, 10, 20, 50), "of the last step: its epoch", COUNT)
    optimizer: str = setting("adam", "with a C_total; help: lists all", read_optimizer, choices=OPTIMIZERS)
    sweeps: tuple[str, ...] = setting(
        BETAS, "what to sweep; by default of these what the optimizer has", choices=sorted(library.BETAS)
    )
    beta1: float | None = _fixed("beta1")
    beta2: float | None = _fixed("beta2")
    beta3: float | None = _fixed("beta3")
    alpha: float | None = inherited(OptimizerSettings, "alpha")
    power: float | None = inherited(OptimizerSettings, "power")
    micro_batch_size: int = setting(
        64, "a smaller batch is its own micro-batch", COUNT, unit="samples", only_with=OF_MICRO_BATCHES
    )
    grid: tuple[float, ...] = setting(library.GRID, "values of the beta that is swept, ascending", BETA)
    min_batch_size: int = setting(
        64, "smallest batch size looked at for turning points", COUNT, unit="samples"
    )


EXAMPLES = (
    "python -m sim.turning --n-samples 2000 --batch-sizes 64 512 --noise-scales 100 --n-epochs 1 5",
    "python -m sim.turning --optimizer ademamix --sweeps beta3 --beta1 0.8 --n-samples 2000 --noise-scales 100",
)
FILES = {"--turning-out": "also write the turning points as CSV"}


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.turning", __doc__, Settings, EXAMPLES, files=FILES)


def main(argv: list[str] | None = None) -> None:
    """Compute the map and the turning points, and write them."""
    args = parser().parse_args(argv)
    s = from_flags(Settings, args)
    from tqdm import tqdm

    rows, turning = [], []
    has = settings_of(s.optimizer)
    sweeps = s.sweeps if "sweeps" in args.given else [name for name in s.sweeps if name in has]
    others = {name: getattr(s, name) for name in has if getattr(s, name, None) is not None}
    n_steps = library.steps_of_map(s.n_samples, s.batch_sizes, s.n_epochs)
    n_steps += library.steps_of_turning_points(s.n_samples, s.min_batch_size, s.n_epochs)
    total = n_steps * len(sweeps)
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        for swept in sweeps:
            about = swept, others, s.n_samples
            of = {"grid": s.grid, "progress": bar.update, "optimizer": s.optimizer}
            of["micro_batch_size"] = s.micro_batch_size
            rows += library.c_total_map(*about, s.batch_sizes, s.noise_scales, s.n_epochs, **of)
            turning += library.turning_points(*about, s.noise_scales, s.n_epochs, s.min_batch_size, **of)
    label: dict[str, Any] = {"optimizer": s.optimizer}
    if make_rule(s.optimizer).of_micro_batches:
        label["micro_batch_size"] = s.micro_batch_size
    rows, turning = ([row | label for row in part] for part in (rows, turning))
    if args.turning_out:
        write_csv(args.turning_out, turning)
    write_result(args, **forms(rows, turning, s.grid[-1]))


def forms(rows: list[dict[str, Any]], turning: list[dict[str, Any]], largest: float) -> dict[str, Any]:
    """Return map and turning points as `write_result` takes them, in every form."""
    from adam_minibatch_noise.expansion.bounds import RADIUS

    lam_max = float(RADIUS) ** 2
    n_outside = sum(row["lam"] >= lam_max for row in rows)
    longest_memory = [row for row in rows if row[row["swept_beta"]] == largest]
    notice = (
        f"rho, the largest relative noise of a batch, is at least the root of lambda: from lambda = {lam_max:.3f} on "
        f"({n_outside} of the {len(rows)} values of the map) the noise is outside the range of the expansion, rho < "
        f"{RADIUS:.3f}: C_total is its second order, with no bound on the rest"
    )
    value = {"turning": turning, "map": rows, "lam_max": lam_max, "n_outside_range": n_outside}
    tables = [to_table(list(part[0]), part) for part in (turning, longest_memory)]
    table = f"{tables[0]}\n\n{tables[1]}\n{notice}"
    return {"rows": rows, "value": value, "table": table}


if __name__ == "__main__":
    run(main)
