"""Compare how the batch size sets the sign and size of C_total, optimiser by optimiser, at their usual settings.

C_total is in units of the square of the step size, so that optimisers whose updates differ in size (AdEMAMix: 1 + alpha
times Adam's) are compared at the same step. All of it is second order in the noise; from the lambda on that is said
below the table the noise is certainly outside the range of the expansion.
"""

from dataclasses import dataclass
from typing import Any

from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.settings import COUNT, POSITIVE, from_flags, setting

BATCH_SIZES = tuple(round(64 * 2 ** (k / 4)) for k in range(32))


@dataclass(frozen=True)
class Settings:
    """An experiment; default: WikiText-2, as in `sim.turning`."""

    n_samples: int = setting(16_317, "N; default: the windows of WikiText-2", COUNT, unit="samples")
    batch_sizes: tuple[int, ...] = setting(
        (*BATCH_SIZES, 16_317), "of the curves; above N: full batch", COUNT, unit="samples"
    )
    noise_scale: float = setting(300.0, "B_simple", POSITIVE, unit="samples")
    n_epochs: int = setting(20, "epochs, at whose end C_total is taken", COUNT, unit="epochs")
    micro_batch_size: int = setting(64, "of batch-size invariant Adam", COUNT, unit="samples")


EXAMPLES = (
    "python -m sim.optimizer_bias",
    "python -m sim.optimizer_bias --n-samples 50000 --batch-sizes 128 1024 8192 --noise-scale 1000 --format csv",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.optimizer_bias", __doc__, Settings, EXAMPLES)


def main(argv: list[str] | None = None) -> None:
    """Compute and write."""
    args = parser().parse_args(argv)
    s = from_flags(Settings, args)
    from tqdm import tqdm

    from adam_minibatch_noise.expansion.turning_points import steps_of_map
    from sim.memory.optimizer_bias_study import CASES, bias_rows

    total = len(CASES) * steps_of_map(s.n_samples, s.batch_sizes, [s.n_epochs])
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        rows = bias_rows(
            s.n_samples, s.batch_sizes, s.noise_scale, s.n_epochs, s.micro_batch_size, progress=bar.update
        )
    write_result(args, **forms(rows))


def forms(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows as `write_result` takes them, in every form."""
    from adam_minibatch_noise.expansion.bounds import RADIUS

    lam_max = float(RADIUS) ** 2
    columns = ("case", "batch_size", "lam", "c_total_limit", "c_total_exact")
    notice = (
        f"from lambda = {lam_max:.3f} on the noise is outside the range of the expansion: C_total is its second order, "
        "with no bound on the rest"
    )
    return {
        "rows": rows,
        "value": {"rows": rows, "lam_max": lam_max},
        "table": f"{to_table(columns, rows)}\n{notice}",
    }


if __name__ == "__main__":
    run(main)
