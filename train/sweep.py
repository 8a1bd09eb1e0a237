"""Train one Transformer-XL after another in one process: a panel of betas and seeds at one batch size and rate.

`--out FILE.csv` gets one row a run, FILE_evaluations.csv one row an evaluation, FILE.json how they were made. While
the sweep is under way, finished runs (`runs.csv` among them, to look at) and the state of the current one are in a
folder, `--work`. A sweep that was killed goes on from there; on the CPU it ends in the same bytes. A run that
diverges is recorded as such, and the sweep goes on.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, allow_only, run
from common.files import locked, write_csv
from common.settings import NONNEGATIVE, Number, add_flags, combinations, from_flags
from train.language.settings import SWEPT, Settings
from train.runtime import device_flags


def main(argv: list[str] | None = None) -> int:
    """Read the flags, make the runs, write the three files."""
    arguments = parser().parse_args(argv)
    settings, out = from_flags(Settings, arguments), arguments.out
    device_flags.check_folders(arguments, settings.corpus)
    device_flags.check_out(out)
    allow_only(arguments, ["at_best"], not settings.mem_len, "with --mem-len 0")
    work = arguments.work or out.with_suffix(".work")
    if work.resolve() == out.resolve().parent:
        raise InputError(f"--work is {str(work)!r}, the folder of --out, allowed: another one")
    runs = runs_of(arguments)

    from tqdm import tqdm

    from common import provenance
    from train.language import corpora, panel, side_by_side
    from train.language.trainer import Trainer
    from train.runtime import distributed

    with (
        distributed.joined(device_flags.device_type(arguments)) as (peers, device),
        locked(out, peers.rank == 0),
    ):
        corpus = corpora.load(settings.corpus, arguments.data_dir, arguments.cache_dir)
        for settings in runs:  # refuse the work of another sweep before anything is said or done
            panel.finished(work, settings, corpus.sha256, arguments.at_best)
        if arguments.side_by_side and arguments.compile is None:
            arguments.compile = False
        compiled = device_flags.compiled(arguments, device)
        if arguments.side_by_side:
            side_by_side.check(settings, compiled, peers.size)
        if arguments.at_best and peers.size > 1:
            raise InputError("--at-best, allowed only with one process")
        trainer = Trainer(settings, corpus, device, compiled=compiled, ranks=peers)
        device_flags.check_out(work / "runs.csv")
        records, quiet = [], not arguments.progress or peers.rank > 0
        # outlives the bar of a run, which is one line below
        bar = tqdm(total=len(runs), unit="run", disable=quiet, smoothing=0)
        loop_settings = {
            "checkpoint_seconds": arguments.checkpoint_seconds,
            "progress": arguments.progress,
            "at_best": arguments.at_best,
        }
        seconds = 60 * arguments.max_minutes
        if arguments.side_by_side:
            n_stacked = side_by_side.n_side_by_side(arguments.side_by_side, settings, device)
            made = panel.side_by_side(trainer, runs, work, n_stacked, seconds, **loop_settings)
        else:
            made = panel.sweep(trainer, runs, work, seconds, **loop_settings)
        for record in made:
            records.append(record)
            bar.update()
            if peers.rank:
                continue
            write_csv(work / "runs.csv", map(panel.row_of, records))
            best = min(panel.perplexity(record) for record in records)
            speed = record["outcome"]["tokens_per_second"]
            bar.set_postfix_str(f"best {best:.5g}, {speed:,.0f} tokens/s")
            if quiet:
                print(panel.report_line(record, len(records), len(runs), best), file=sys.stderr, flush=True)
        bar.close()
        if peers.rank:
            return 0
        if len(records) < len(runs):
            print(
                f"{out}: {len(records)} of {len(runs)} runs made; the same command goes on", file=sys.stderr
            )
        if not records:
            return 0
        order = [[getattr(settings, name) for name in SWEPT] for settings in runs]
        records.sort(key=lambda record: order.index([record["settings"][name] for name in SWEPT]))
        made_with = {**provenance.describe_device(device), "compiled": compiled, "n_processes": peers.size}
        panel.write(out, records, len(runs), {"corpus": corpora.describe(corpus), "made_with": made_with})
        if len(records) == len(runs):
            panel.clear(work, runs)
    return 0


def runs_of(arguments: argparse.Namespace) -> list[Settings]:
    """Return the settings of every run that the flags ask for.

    Raises
    ------
    InputError
        Values out of range; `--beta1` beside `--diagonal`.
    """
    allow_only(arguments, ["beta1"], not arguments.diagonal, "without --diagonal")
    runs = combinations(Settings, arguments, SWEPT)
    return [replace(run, beta1=run.beta2) for run in runs] if arguments.diagonal else runs


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m train.sweep",
        description=__doc__,
        examples=["python -m train.sweep --batch-size 32 --beta2 0.9 0.99 0.999 --seed 0 1 --out panel.csv"],
    )
    add_flags(parser, Settings, lists=SWEPT)
    parser.add_argument("--diagonal", action="store_true", help="beta1 of a run is its beta2")
    files = parser.add_argument_group("files and machine")
    files.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="one row a run")
    files.add_argument("--work", type=Path, metavar="FOLDER", help="of a sweep under way; None: FILE.work")
    files.add_argument(
        "--max-minutes",
        type=NONNEGATIVE,
        default=0.0,
        metavar="M",
        help="begin no run after so long; 0: no end",
    )
    files.add_argument(
        "--at-best",
        action="store_true",
        help="where a run's validation loss is least, measure its gradient, the noise and the sharpness",
    )
    files.add_argument(
        "--side-by-side",
        type=Number(int, 0, 256),
        default=0,
        metavar="N",
        help="train up to N runs of a small model at a time in one program, twice as fast for small batches; "
        "may change last digits; 0: one run after another",
    )
    device_flags.add_flags(files)
    return parser


if __name__ == "__main__":
    run(main)
