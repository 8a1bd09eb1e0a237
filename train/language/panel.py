"""A panel: runs of one batch size and learning rate, one after the other; what is kept of it, and what is written."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.files import remove_abandoned, write_csv, write_json
from train.language.settings import SWEPT, Settings

if TYPE_CHECKING:
    from train.language.trainer import Trainer

OUTCOME = (
    "n_windows n_batches n_dropped_windows n_steps status ended_by min_valid_perplexity step_of_min epoch_of_min "
    "test_perplexity"
)
"""What the row of a run says beside its settings; the seconds go to the JSON file, where no two runs agree."""
STACK = "side_by_side.pt"
"""File of the state of the runs that are trained side by side."""


def sweep(
    trainer: "Trainer",
    runs: list[Settings],
    work: Path,
    max_seconds: float = 0.0,
    at_best: bool = False,
    **loop_settings: Any,
) -> Iterator[dict[str, Any]]:
    """Make the runs that `work` does not hold yet.

    Parameters
    ----------
    trainer : Trainer
    runs : list of Settings
    work : path
        Folder of finished runs and of the state of the current one.
    max_seconds : float
        Begin no further run after so long; 0: no end.
    at_best : bool
        Measure the gradient, its noise and the sharpness where the validation loss is least.
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
        record = finished(work, settings, trainer.corpus.sha256, at_best)
        if record:
            yield record
            continue
        if trainer.ranks.agree(0 < max_seconds <= time.perf_counter() - started):
            return
        checkpoint = work / f"{name_of(settings)}.pt"
        rows, outcome = loop.train(trainer, settings, checkpoint, **loop_settings)
        record = _record(trainer, settings, rows, outcome, at_best)
        if first:
            write_json(checkpoint.with_suffix(".json"), record)
            loop.checkpoints.remove(checkpoint)
            record = finished(work, settings, trainer.corpus.sha256, at_best) or record
        yield record


def side_by_side(
    trainer: "Trainer",
    runs: list[Settings],
    work: Path,
    n_stacked: int,
    max_seconds: float = 0.0,
    at_best: bool = False,
    **loop_settings: Any,
) -> Iterator[dict[str, Any]]:
    """Make the runs that `work` does not hold yet, several at a time; parameters and errors as in `sweep`.

    Parameters
    ----------
    n_stacked : int
        See `train.language.side_by_side.train`.

    Yields
    ------
    dict
        The record of each run: old ones in the order of `runs`, then new ones as they end.
    """
    from train.language import side_by_side

    started, missing = time.perf_counter(), []
    for settings in runs:
        record = finished(work, settings, trainer.corpus.sha256, at_best)
        if record:
            yield record
        else:
            missing.append(settings)
    training = side_by_side.train(trainer, missing, n_stacked, work / STACK, **loop_settings)
    while not 0 < max_seconds <= time.perf_counter() - started:
        ended = next(training, None)
        if ended is None:
            return
        record = _record(trainer, *ended, at_best)
        write_json(work / f"{name_of(ended[0])}.json", record)
        yield finished(work, ended[0], trainer.corpus.sha256, at_best) or record


def _record(
    trainer: "Trainer", settings: Settings, rows: list[dict[str, Any]], outcome: dict[str, Any], at_best: bool
) -> dict[str, Any]:
    """Return the record of a run that has just ended: the trainer holds its best parameters."""
    identity = {**asdict(settings), "corpus_sha256": trainer.corpus.sha256}
    record = {"settings": identity, "outcome": outcome, "evaluations": rows}
    if at_best:
        from train.language import best_point

        measured = (
            best_point.measure(trainer) if outcome["step_of_min"] else dict.fromkeys(best_point.COLUMNS)
        )
        record["at_best"] = measured
    return record


def name_of(settings: Settings) -> str:
    """Name a run within its panel by what is swept."""
    return "_".join(f"{name}-{getattr(settings, name)}" for name in SWEPT)


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a run: the settings of its evaluations, then `OUTCOME`, then what was measured at the best."""
    settings, outcome = record["settings"], record["outcome"]
    return (
        {name: settings[name] for name in Settings.__dataclass_fields__ if name in settings}
        | {name: outcome[name] for name in OUTCOME.split()}
        | record.get("at_best", {})
    )


def clear(work: Path, runs: list[Settings]) -> None:
    """Remove what this sweep wrote to `work`, by name: the folder may be anyone's, and it goes only if it is empty."""
    names = [
        "runs.csv",
        STACK,
        f"{STACK}.previous",
        *(name_of(run) + suffix for run in runs for suffix in (".json", ".pt", ".pt.previous")),
    ]
    for name in names:
        remove_abandoned(work / name)
        (work / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        work.rmdir()


def write(out: Path, records: list[dict[str, Any]], n_runs: int, made: dict[str, Any]) -> None:
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


def report_line(record: dict[str, Any], n_done: int, n_runs: int, best: float) -> str:
    """Say in one line how a run ended, for a log."""
    outcome, settings = record["outcome"], record["settings"]
    swept = ", ".join(f"{name} {settings[name]}" for name in SWEPT)
    return (
        f"{n_done}/{n_runs} runs; {swept}: {outcome['status']}, minimal validation perplexity "
        f"{perplexity(record):.5g} at epoch {outcome['epoch_of_min']:.3g}, {outcome['seconds']:.0f} s, "
        f"{outcome['tokens_per_second']:,.0f} tokens/s; best so far {best:.5g}"
    )


def perplexity(record: dict[str, Any]) -> float:
    """Return the minimal validation perplexity of a run; infinite if it diverged at once."""
    value = record["outcome"]["min_valid_perplexity"]
    return float("inf") if value is None else value  # JSON knows no infinity


def finished(
    work: Path, settings: Settings, corpus_sha256: str, at_best: bool = False
) -> dict[str, Any] | None:
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
    if at_best != ("at_best" in record):
        raise InputError(
            f"{path}: is of a sweep {'without' if at_best else 'with'} --at-best; delete it to start over"
        )
    return record
