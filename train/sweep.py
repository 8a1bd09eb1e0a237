"""Train one Transformer-XL after another in one process: a panel of betas and seeds at one batch size and rate.

`--out FILE.csv` gets one row a run, FILE_evaluations.csv one row an evaluation, FILE.json how they were made. While
the sweep is under way, finished runs (`runs.csv` among them, to look at) and the state of the current one are in a
folder, `--work`. A sweep that was killed goes on from there; on the CPU it ends in the same bytes. A run that
diverges is recorded as such, and the sweep goes on.
"""

import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.files import locked, remove_abandoned, write_csv, write_json
from common.settings import NONNEGATIVE, add_flags, combinations, from_flags
from train.language.settings import SWEPT, Settings
from train.runtime import device_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from train.language.trainer import Trainer

OUTCOME = (
    "n_windows n_batches n_dropped_windows n_steps status ended_by min_valid_perplexity step_of_min epoch_of_min "
    "test_perplexity"
)
"""What the row of a run says beside its settings; the seconds go to the JSON file, where no two runs agree."""


def sweep(
    trainer: "Trainer", runs: list[Settings], work: Path, max_seconds: float = 0.0, **loop_settings: Any
) -> "Iterator[dict[str, Any]]":
    """Make the runs that `work` does not hold yet.

    Parameters
    ----------
    trainer : Trainer
    runs : list of Settings
    work : path
        Folder of finished runs and of the state of the current one.
    max_seconds : float
        Begin no further run after so long; 0: no end.
    **loop_settings
        `checkpoint_seconds`, `progress` of `train.language.loop.train`.

    Yields
    ------
    dict
        The record of each run, old or new, in the order of `runs`: `settings`, `outcome`, `evaluations`.

    Raises
    ------
    InputError
        The folder belongs to another sweep, or holds a damaged file.
    """
    from train.language import loop

    started, first = time.perf_counter(), not trainer.ranks.rank
    for settings in runs:
        record = _finished(work, settings, trainer.corpus.sha256)
        if record:
            yield record
            continue
        if trainer.ranks.agree(0 < max_seconds <= time.perf_counter() - started):
            return
        checkpoint = work / f"{name_of(settings)}.pt"
        rows, outcome = loop.train(trainer, settings, checkpoint, **loop_settings)
        identity = {**asdict(settings), "corpus_sha256": trainer.corpus.sha256}
        record = {"settings": identity, "outcome": outcome, "evaluations": rows}
        if first:
            write_json(checkpoint.with_suffix(".json"), record)
            loop.checkpoints.remove(checkpoint)
            record = _finished(work, settings, trainer.corpus.sha256)
        yield record


def name_of(settings: Settings) -> str:
    """Name a run within its panel by what is swept."""
    return "_".join(f"{name}-{getattr(settings, name)}" for name in SWEPT)


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a run: the settings of its evaluations, then `OUTCOME`."""
    settings, outcome = record["settings"], record["outcome"]
    return {name: settings[name] for name in Settings.__dataclass_fields__ if name in settings} | {
        name: outcome[name] for name in OUTCOME.split()
    }


def main(argv: list[str] | None = None) -> int:
    """Read the flags, make the runs, write the three files."""
    arguments = parser().parse_args(argv)
    settings, out = from_flags(Settings, arguments), arguments.out
    device_flags.check_out(out)
    work = arguments.work or out.with_suffix(".work")
    if work.resolve() == out.resolve().parent:
        raise InputError(f"--work is {str(work)!r}, the folder of --out, allowed: another one")
    runs = combinations(Settings, arguments, SWEPT)

    from tqdm import tqdm

    from common import provenance
    from train.language import corpora
    from train.language.trainer import Trainer
    from train.runtime import distributed

    with (
        distributed.joined(device_flags.device_type(arguments)) as (peers, device),
        locked(out, peers.rank == 0),
    ):
        corpus = corpora.load(settings.corpus, arguments.data_dir, arguments.cache_dir)
        for settings in runs:  # refuse the work of another sweep before anything is said or done
            _finished(work, settings, corpus.sha256)
        compiled = device_flags.compiled(arguments, device)
        trainer = Trainer(settings, corpus, device, compiled=compiled, ranks=peers)
        device_flags.check_out(work / "runs.csv")
        records, quiet = [], not arguments.progress or peers.rank > 0
        # outlives the bar of a run, which is one line below
        bar = tqdm(total=len(runs), unit="run", disable=quiet, smoothing=0)
        loop_settings = {"checkpoint_seconds": arguments.checkpoint_seconds, "progress": arguments.progress}
        for record in sweep(trainer, runs, work, 60 * arguments.max_minutes, **loop_settings):
            records.append(record)
            bar.update()
            if peers.rank:
                continue
            write_csv(work / "runs.csv", map(row_of, records))
            best = min(_perplexity(record) for record in records)
            speed = record["outcome"]["tokens_per_second"]
            bar.set_postfix_str(f"best {best:.5g}, {speed:,.0f} tokens/s")
            if quiet:
                print(_news(record, len(records), len(runs), best), file=sys.stderr, flush=True)
        bar.close()
        if peers.rank:
            return 0
        if len(records) < len(runs):
            print(
                f"{out}: {len(records)} of {len(runs)} runs made; the same command goes on", file=sys.stderr
            )
        if not records:
            return 0
        made_with = {**provenance.describe_device(device), "compiled": compiled, "n_processes": peers.size}
        _write(out, records, len(runs), {"corpus": corpora.describe(corpus), "made_with": made_with})
        if len(records) == len(runs):
            _clear(work, runs)
    return 0


def _clear(work: Path, runs: list[Settings]) -> None:
    """Remove what this sweep wrote to `work`, by name: the folder may be anyone's, and it goes only if it is empty."""
    names = [
        "runs.csv",
        *(name_of(run) + suffix for run in runs for suffix in (".json", ".pt", ".pt.previous")),
    ]
    for name in names:
        remove_abandoned(work / name)
        (work / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        work.rmdir()


def _write(out: Path, records: list[dict[str, Any]], n_runs: int, made: dict[str, Any]) -> None:
    """Write JSON, evaluations and, last, runs."""
    timing = ("seconds", "evaluation_seconds", "tokens_per_second")
    shared = {name: value for name, value in records[0]["settings"].items() if name not in SWEPT}
    runs = [
        {name: record["settings"][name] for name in SWEPT}
        | {name: record["outcome"][name] for name in timing}
        for record in records
    ]
    summary = {
        "n_runs": len(records),
        "n_missing": n_runs - len(records),
        **{name: records[0]["outcome"][name] for name in ("n_params", "n_windows")},
    }
    seconds = sum(record["outcome"]["seconds"] for record in records)
    write_json(
        out.with_suffix(".json"), {**summary, "seconds": seconds, "settings": shared, "runs": runs, **made}
    )
    evaluations = [row for record in records for row in record["evaluations"]]
    write_csv(out.with_name(f"{out.stem}_evaluations.csv"), evaluations)
    write_csv(out, map(row_of, records))


def _news(record: dict[str, Any], n_done: int, n_runs: int, best: float) -> str:
    outcome, settings = record["outcome"], record["settings"]
    swept = ", ".join(f"{name} {settings[name]}" for name in SWEPT)
    return (
        f"{n_done}/{n_runs} runs; {swept}: {outcome['status']}, minimal validation perplexity "
        f"{_perplexity(record):.5g} at epoch {outcome['epoch_of_min']:.3g}, {outcome['seconds']:.0f} s, "
        f"{outcome['tokens_per_second']:,.0f} tokens/s; best so far {best:.5g}"
    )


def _perplexity(record: dict[str, Any]) -> float:
    value = record["outcome"]["min_valid_perplexity"]
    return float("inf") if value is None else value  # JSON knows no infinity


def _finished(work: Path, settings: Settings, corpus_sha256: str) -> dict[str, Any] | None:
    """Read the record of a run, if it is there."""
    path, identity = work / f"{name_of(settings)}.json", {**asdict(settings), "corpus_sha256": corpus_sha256}
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        there, _, _ = record["settings"], record["outcome"], record["evaluations"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); delete it to make this run again") from error
    for name, value in identity.items():
        if there.get(name) != value:
            raise InputError(
                f"{path}: is of another sweep ({name} is {there.get(name)!r} there, {value!r} here); "
                "delete its folder to start over"
            )
    return record


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m train.sweep", description=__doc__)
    add_flags(parser, Settings, lists=SWEPT)
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
    device_flags.add_flags(files)
    return parser


if __name__ == "__main__":
    run(main)
