"""List which runs of the published grid are recorded, and the commands of the next most valuable ones.

The order of value is `STAGES`: one seed of a coarse curve at three batch sizes, then the rest of those curves, then
further seeds, then the other batch sizes and learning rates. The largest batches, slowest to overfit, come last.
`--write` puts the same into records/README.md, between its markers.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, allow_only, run
from common.config import flags, load, recorded_tables
from common.files import atomic_write
from common.settings import COUNT

CONFIGS = ("config/config.yaml", "config/full.yaml")
FOLDER, README = "records/train/sweep", "records/README.md"
BEGIN, END = "<!-- made by python -m analysis.records_index --write -->\n", "<!-- end -->\n"
COARSE = {"beta2": [0.848, 0.934, 0.972, 0.99, 0.999]}
MEDIUM, LAST = [128, 512, 2048], [4096, 16317]
STAGES: tuple[Mapping[str, Any], ...] = (
    {"curve": "beta2", "lr": [1e-3], "batch_size": MEDIUM, "seed": [0], "coarse": True},
    {"curve": "beta2", "lr": [1e-3], "batch_size": MEDIUM, "seed": [0]},
    {"curve": "beta2", "lr": [1e-3], "batch_size": MEDIUM},
    {"curve": "beta1", "lr": [1e-3], "batch_size": MEDIUM, "seed": [0]},
    {"curve": "beta2", "lr": [1e-3], "seed": [0], "but": LAST},
    {"curve": "beta2", "seed": [0], "but": LAST},
    {"curve": "beta2", "but": LAST},
    {"curve": "beta1", "but": LAST},
    {"curve": "beta2"},
    {"curve": "beta1"},
)
"""What each takes from the grid; a key that is left out takes all; `but` leaves batch sizes out."""
Run = tuple[float, int, float, float, int]
"""lr, batch size, beta1, beta2, seed."""


def runs_of(stage: Mapping[str, Any], grid: Mapping[str, Any]) -> dict[tuple[float, int], list[Run]]:
    """List the runs of a stage by panel.

    Parameters
    ----------
    stage : mapping
        Of `STAGES`.
    grid : mapping
        `train.sweep` of the configuration.
    """
    curve = dict(grid["curves"][stage["curve"]])
    if stage.get("coarse"):
        curve[stage["curve"]] = COARSE[stage["curve"]]
    panels = {}
    for lr in stage.get("lr", grid["lr"]):
        for batch_size in stage.get("batch_size", grid["batch_size"]):
            if batch_size not in stage.get("but", []):
                panels[lr, batch_size] = [
                    (lr, batch_size, beta1, beta2, seed)
                    for seed in stage.get("seed", grid["seed"])
                    for beta1 in curve["beta1"]
                    for beta2 in curve["beta2"]
                ]
    return panels


def recorded_runs(folder: str) -> set[Run]:
    """Return the runs whose rows are in the tables of a folder."""
    from analysis.inputs import tables
    from analysis.reductions import sweeps

    paths = recorded_tables(folder)
    with tables.refuse_malformed(paths):
        table = sweeps.read_runs(paths)[sweeps.KEYS]
        return {
            (float(lr), int(size), float(beta1), float(beta2), int(seed))
            for lr, size, beta1, beta2, seed in table.itertuples(index=False)
        }


def commands(grid: Mapping[str, Any], done: set[Run], n_commands: int, folder: str) -> list[str]:
    """Return the commands of the next most valuable runs, one a panel.

    Parameters
    ----------
    grid : mapping
    done : set of runs
    n_commands : int
        At most so many.
    folder : str
        Where the tables go; a name that is taken gets a number.
    """
    lines: list[str] = []
    planned, taken = set(done), {Path(path).stem for path in recorded_tables(folder)}
    for stage in STAGES:
        for (lr, batch_size), runs in runs_of(stage, grid).items():
            missing = [one for one in runs if one not in planned]
            for seeds in _whole(missing):
                if len(lines) == n_commands:
                    return lines
                part = [one for one in missing if one[-1] in seeds]
                planned |= set(part)
                base = name = f"{stage['curve']}_b{batch_size}_lr{lr}"
                number = 2
                while name in taken:
                    name, number = f"{base}_part{number}", number + 1
                taken.add(name)
                swept = {"beta1": sorted({one[2] for one in part}), "beta2": sorted({one[3] for one in part})}
                settings = {"batch_size": batch_size, "lr": lr, **swept, "seed": seeds, "device": "cuda"}
                words = f"{flags(grid['settings'])} {flags(settings)} --out {folder}/{name}.csv"
                lines.append(f"python -m train.sweep {words}")
    return lines


def _whole(missing: list[Run]) -> list[list[int]]:
    """Group seeds that lack the same betas, so that a command's grid of betas and seeds holds just these."""
    groups: dict[frozenset, list[int]] = {}
    for seed in sorted({one[-1] for one in missing}):
        groups.setdefault(frozenset(one[:-1] for one in missing if one[-1] == seed), []).append(seed)
    return list(groups.values())


def table(grid: Mapping[str, Any], done: set[Run]) -> str:
    """Return a Markdown table: runs that exist of those wanted, a row a curve and learning rate."""
    sizes = grid["batch_size"]
    lines = [f"| curve | lr | {' | '.join(map(str, sizes))} |", "|---|---|" + "---:|" * len(sizes)]
    inside = set()
    for curve in sorted(grid["curves"], reverse=True):
        panels = runs_of({"curve": curve}, grid)
        inside |= {one for runs in panels.values() for one in runs}
        for lr in grid["lr"]:
            of = [f"{sum(one in done for one in panels[lr, b])}/{len(panels[lr, b])}" for b in sizes]
            lines.append(f"| {curve} | {lr:.3g} | {' | '.join(of)} |")
    n_inside = len(done & inside)
    end = f"{n_inside} of {len(inside)} runs of the grid exist, and {len(done) - n_inside} beside it."
    return "\n".join([*lines, "", end])


def section(folder: str, n_commands: int) -> str:
    """Return what stands between the markers of the README."""
    grid, done = load(*CONFIGS)["train"]["sweep"], recorded_runs(folder)
    lines = commands(grid, done, n_commands, folder)
    return f"{table(grid, done)}\n\nNext:\n\n" + "".join(f"    {line}\n" for line in lines)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.records_index", description=__doc__)
    parser.add_argument("--folder", default=FOLDER, help="of the tables")
    parser.add_argument("--n-commands", type=COUNT, default=3, help="how many commands to name")
    parser.add_argument("--commands", action="store_true", help="print the commands alone, for a shell")
    parser.add_argument(
        "--write", action="store_true", help="put it into --readme instead of standard output"
    )
    parser.add_argument("--readme", default=README, metavar="FILE", help="with the two markers")
    return parser


def main(argv: list[str] | None = None) -> None:
    """List and print or write."""
    args = parser().parse_args(argv)
    allow_only(args, ["commands"], not args.write, "without --write")
    allow_only(args, ["readme"], args.write, "with --write")
    text = section(args.folder, args.n_commands)
    if args.commands:
        print(*(line.strip() for line in text.splitlines() if line.startswith("    python ")), sep="\n")
        return
    if not args.write:
        print(text, end="")
        return
    try:
        before = Path(args.readme).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{args.readme}: is not UTF-8 ({error})") from error
    if BEGIN not in before or END not in before.split(BEGIN, 1)[1]:
        raise InputError(f"{args.readme}: lacks the lines {BEGIN.strip()} and {END.strip()}")
    head, rest = before.split(BEGIN, 1)
    with atomic_write(args.readme) as file:
        file.write(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    run(main)
