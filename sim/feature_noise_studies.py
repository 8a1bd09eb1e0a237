"""Run one study of the two-layer CNN: the published table, unstated choices, confounders, sweeps, other optimizers.

`sim.feature_noise.studies` says which runs a study has and what was to be concluded from them, written down before.
Every run is repeated for seeds --seed, --seed + 1, ...; the table has a row for each measurement of each run.
"""

import sys
from dataclasses import MISSING, dataclass, replace
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, make_parser, run, write_result
from common.files import to_table, write_json
from common.settings import COUNT, from_flags, inherited, setting
from sim.feature_noise import settings as run_settings
from sim.feature_noise.studies import STUDIES, chosen_cases


def _unless_set(name: str) -> Any:
    """A setting of a run, for the studies that do not decide it themselves."""
    free = [study for study, about in STUDIES.items() if name not in about.sets]
    return inherited(run_settings.Settings, name, also_with={"study": free})


@dataclass(frozen=True, kw_only=True)
class Settings(run_settings.Settings):
    """A study, what its runs share, and how many seeds."""

    supports: str = _unless_set("supports")
    activation: str = _unless_set("activation")
    q: int = _unless_set("q")
    optimizer: str = _unless_set("optimizer")
    weight_decay: float = _unless_set("weight_decay")
    beta1: float = _unless_set("beta1")
    beta2: float = _unless_set("beta2")
    eps: float = _unless_set("eps")
    eps_root: float = _unless_set("eps_root")
    bias_correction: bool = _unless_set("bias_correction")
    micro_batch_size: int = _unless_set("micro_batch_size")
    replacement: bool = _unless_set("replacement")
    n_epochs: int = inherited(  # steps: at the large batch, and --n-steps at most at the small one
        run_settings.Settings, "n_epochs", only_with=({"n_steps": (0,)}, {"study": ("steps",)})
    )
    study: str = setting(
        MISSING,
        " ".join(f"{name}: {about.title}" for name, about in STUDIES.items()),
        choices=tuple(STUDIES),
        group="study",
    )
    n_seeds: int = setting(5, "runs of each case, of seeds --seed, --seed + 1, ...", COUNT, group="study")
    cases: tuple[str, ...] = setting((), "only the cases whose names contain one of these", group="study")


EXAMPLES = (
    "python -m sim.feature_noise_studies --study table --n-samples 16 --patch-length 81 --n-noise 16 --noise-std 0.25 "
    "--n-filters 4 --n-epochs 100 --n-test 100 --n-seeds 2",
    "python -m sim.feature_noise_studies --study betas --cases b100 --n-seeds 5 --format csv --out betas.csv --how "
    "betas.json",
)
OMIT = ("batch_size",)
"""What every study decides."""
FILES = {"--how": "write there how --out was made, as JSON"}


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser(
        "sim.feature_noise_studies", __doc__, Settings, EXAMPLES, omit=OMIT, threads=True, files=FILES
    )


def main(argv: list[str] | None = None) -> None:
    """Run, write."""
    args = parser().parse_args(argv)
    if args.how and not args.out:
        raise InputError("--how says how the file of --out was made, which is missing")
    settings = from_flags(Settings, args)
    cases = chosen_cases(settings.study, settings.run, settings.cases)
    from tqdm import tqdm

    from sim.feature_noise.tables import ENDS, case_ends, columns
    from sim.feature_noise.training import train
    from sim.monte_carlo.parallel_mean import in_threads

    seeds = range(settings.seed, settings.seed + settings.n_seeds)
    runs = [(name, replace(case, seed=seed)) for name, case in cases.items() for seed in seeds]
    total = sum(one.total_steps for _, one in runs)
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        records = list(in_threads(lambda job: train(job[1], bar.update), runs, args.n_threads))
    rows = [
        {"study": settings.study, "case": name} | columns(one) | row
        for (name, one), measured in zip(runs, records, strict=True)
        for row in measured
    ]
    ends = case_ends(rows)
    table = to_table(ENDS, [list(end.values()) for end in ends])
    write_result(args, rows=rows, value={"study": settings.study, "cases": ends}, table=table)
    if args.how:
        from common import provenance

        words = sys.argv[1:] if argv is None else argv
        write_json(args.how, provenance.describe_table("sim.feature_noise_studies", words, args.out))


if __name__ == "__main__":
    run(main)
