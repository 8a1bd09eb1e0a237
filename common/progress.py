"""What a workflow shows while it runs: jobs done and to do, what runs now, the time left, the log of a job that fails.

Snakemake's own listing of every job goes into its log file alone. A terminal shows a bar that moves; anything else gets
a line for each job that ends.
"""

import contextlib
import csv
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.time_left import TimeLeft, in_words

LAST_LINES = 15
"""How much of the log of a failed job is shown."""
UNSAID = (
    "Building DAG",
    "Assuming unrestricted",
    "Using shell",
    "host:",
    "Conda environments",
    "Singularity",
)
"""How messages begin that tell a reader nothing."""


def show_progress(workflow: Any) -> None:
    """Show progress in place of Snakemake's listing, unless this is a dry run, a job, or the listing was asked for.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    """
    from snakemake.logging import logger

    asked = workflow.output_settings
    listing = next((each for each in logger.handlers if each.name == "DefaultStreamHandler"), None)
    if listing is None or asked.dryrun or not workflow.is_main_process:
        return
    if asked.quiet or asked.verbose or asked.printshellcmds or asked.debug_dag:
        return
    logger.removeHandler(listing)
    logger.addHandler(Progress(workflow))


class Progress(logging.Handler):
    """A handler of Snakemake's messages.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        Its jobs are looked at when it starts.
    """

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        from rich.console import Console

        self.workflow = workflow
        self.console = Console(stderr=True, highlight=False)
        self.moves = self.console.is_terminal and not self.console.is_dumb_terminal
        self.running: dict[int, Job] = {}
        self.failed: set[int] = set()
        self.n_done = self.n_jobs = 0
        self.start = time.monotonic()
        self.left = TimeLeft({}, 1)
        self.live: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a message of Snakemake says."""
        kind = str(getattr(record, "event", None) or "message")
        with contextlib.suppress(BrokenPipeError):
            getattr(self, f"_on_{kind}", self._ignore)(record)
            if self.live is not None:
                self.live.refresh()

    def close(self) -> None:
        """Give the terminal back."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        super().close()

    def _ignore(self, record: Any) -> None:
        """Nothing: the log file has it."""

    def _on_run_info(self, record: Any) -> None:
        jobs = [job for job in self.workflow.dag.needrun_jobs() if job.rule.name != "all"]
        cores = self.workflow.resource_settings.cores or len(jobs)
        self.n_jobs, self.start = len(jobs), time.monotonic()
        self.left = TimeLeft(known_seconds(jobs), cores)
        for job in jobs:
            self.left.expect(job.rule.name, job.threads)

    def _on_job_info(self, record: Any) -> None:
        if record.rule_name == "all":
            return
        self.failed.discard(record.jobid)
        self.running[record.jobid] = Job(record)
        if self.moves and self.live is None:
            from rich.live import Live

            self.live = Live(
                get_renderable=self._bar, console=self.console, refresh_per_second=2, transient=True
            )
            self.live.start()
        elif not self.moves and not self.n_done and len(self.running) == 1:
            self._say(f"{self.n_jobs} jobs to do; running: {self.running[record.jobid].name}")

    def _on_job_finished(self, record: Any) -> None:
        job = self.running.pop(record.job_id, None)
        if job is None:
            return
        self.n_done += 1
        self.left.finish(job.rule, job.threads, job.seconds)
        if not self.moves:
            running = ", ".join(each.name for each in self.running.values())
            self._say(
                f"{self._counts()}: {job.name} took {in_words(job.seconds)}"
                + (f"; running: {running}" if running else "")
            )

    def _on_job_error(self, record: Any) -> None:
        if record.jobid in self.failed:  # Snakemake says it again at the end
            return
        self.failed.add(record.jobid)
        job = self.running.pop(record.jobid, None) or Job(record)
        self._say(f"FAILED: {job.name}", "bold red")
        if record.shellcmd:
            self._say(f"  command: {' '.join(record.shellcmd.split())}")
        for log in record.log or ():
            self._say(f"  last lines of its log, {log}:")
            for line in last_lines(log):
                self._say(f"    {line}")
        if not record.log and record.msg:
            self._say(f"  {record.msg}")

    def _on_error(self, record: Any) -> None:
        text = record.getMessage()
        if "CalledProcessError" not in text:  # that of a job, shown with its log
            self._say(text, "red")

    def _on_message(self, record: Any) -> None:
        text = record.getMessage()
        if text.startswith("Complete log"):
            self._end(text)
        elif record.levelno >= logging.WARNING or not (
            self.n_jobs or text.startswith(UNSAID) or text == "None"
        ):
            self._say(text, "red" if record.levelno >= logging.ERROR else "")

    def _end(self, text: str) -> None:
        self.close()
        failed = f", {len(self.failed)} failed" if self.failed else ""
        self._say(
            f"{self.n_done} of {self.n_jobs} jobs done{failed}, {in_words(time.monotonic() - self.start)}"
        )
        self._say(f"listing: {_short(text.split(': ', 1)[-1])}")

    def _counts(self) -> str:
        passed = time.monotonic() - self.start
        running = [(job.rule, job.threads, job.seconds) for job in self.running.values()]
        left = self.left.in_words(running)
        return f"{self.n_done} of {self.n_jobs} jobs, {in_words(passed)} passed, {left}"

    def _bar(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        jobs = list(self.running.values())
        lines = [
            Text(f"  {job.name}  {in_words(job.seconds)}", style="dim", overflow="ellipsis", no_wrap=True)
            for job in jobs
        ]
        counts = self._counts()
        width = max(10, min(40, self.console.width - len(counts) - 1))
        first = Table.grid(padding=(0, 1, 0, 0))
        first.add_row(ProgressBar(total=max(self.n_jobs, 1), completed=self.n_done, width=width), counts)
        return Group(first, *lines)

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style or None, markup=False, soft_wrap=True)


class Job:
    """A job that runs: its name for a reader, its rule, its cores, and since when."""

    def __init__(self, record: Any) -> None:
        values = dict(getattr(record, "wildcards", None) or {}).values()
        self.rule = record.rule_name
        self.name = " ".join([self.rule, *(str(value).strip("_") for value in values if value)])
        self.threads = getattr(record, "threads", 1)
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self.start


def known_seconds(jobs: Iterable[Any]) -> dict[str, list[float]]:
    """Return how long jobs of the same rules took when they last ran, by rule, from their benchmarks."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        with contextlib.suppress(OSError, KeyError, ValueError, StopIteration, TypeError):
            with open(job.benchmark, newline="") as file:
                seconds = float(next(csv.DictReader(file, delimiter="\t"))["s"])
            found.setdefault(job.rule.name, []).append(seconds)
    return found


def last_lines(path: str, n_lines: int = LAST_LINES) -> list[str]:
    """Return the last lines of a log, or why it cannot be read."""
    try:
        lines = Path(path).read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    except OSError as error:
        return [str(error)]
    return [line.rsplit("\r", 1)[-1] for line in lines[-n_lines:]]  # of a bar that moved, where it ended


def _short(paths: str) -> str:
    return paths.replace(f"{Path.cwd()}/", "")
