"""What a workflow shows while it runs, message by message, and how it comes to the time left."""

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from common import progress
from common.time_left import TimeLeft, in_words


def job(rule, threads=1, benchmark=None):
    return SimpleNamespace(rule=SimpleNamespace(name=rule), threads=threads, benchmark=benchmark)


class Run:
    """A workflow of some jobs and the messages that Snakemake sends of it; `shown` is what a reader saw."""

    def __init__(self, *rules, cores=2, terminal=False):
        jobs = [job(rule) for rule in (*rules, "all")]
        dag = SimpleNamespace(needrun_jobs=lambda: jobs)
        self.handler = progress.Progress(
            SimpleNamespace(dag=dag, resource_settings=SimpleNamespace(cores=cores))
        )
        self.out = io.StringIO()
        self.handler.console = Console(file=self.out, force_terminal=terminal, width=100)
        self.handler.moves = terminal
        self.send("run_info")

    def send(self, event=None, level=logging.INFO, message="", **fields):
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__ |= fields | {"event": event}
        self.handler.handle(record)

    def begin(self, jobid, rule, log=(), **wildcards):
        self.send("job_info", jobid=jobid, rule_name=rule, wildcards=wildcards, threads=1, log=log)

    def end(self, jobid):
        self.send("job_finished", job_id=jobid)

    def fail(self, jobid, rule, log, shellcmd="python -m x"):
        self.send("job_error", jobid=jobid, rule_name=rule, log=log, shellcmd=shellcmd, msg="", threads=1)

    @property
    def lines(self):
        return self.out.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_for_each_job_that_ends():
    run = Run("a", "b", "a")
    run.begin(1, "a", case="one", scale="")
    run.begin(2, "b")
    run.end(1)
    run.end(2)
    assert run.lines == [
        "3 jobs to do; running: a one",
        "1 of 3 jobs, 0 s passed, time left not known yet: a one took 0 s; running: b",
        "2 of 3 jobs, 0 s passed, about 0 s left: b took 0 s",
    ]


def test_a_failed_job_is_shown_once_with_its_command_and_the_end_of_its_log(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {i}\n" for i in range(41)) + "progress 1\rerror: it is 7\n")
    run = Run("a")
    run.begin(1, "a", log=[str(log)])
    run.fail(1, "a", [str(log)], "python -m a   --n 7")
    run.fail(1, "a", [str(log)])
    run.send("error", logging.ERROR, "CalledProcessError in file x")
    run.send(None, logging.ERROR, "Exiting because a job execution failed.")
    run.send(None, message="Complete log(s): /somewhere/x.log")
    assert run.lines[1:4] == ["FAILED: a", "  command: python -m a --n 7", f"  last lines of its log, {log}:"]
    assert run.lines[4] == "    line 27"
    assert run.lines[3 + progress.LAST_LINES] == "    error: it is 7"
    assert run.lines[4 + progress.LAST_LINES :] == [
        "Exiting because a job execution failed.",
        "0 of 1 jobs done, 1 failed, 0 s",
        "listing: /somewhere/x.log",
    ]


def test_a_job_that_is_tried_again_and_fails_again_is_shown_again(tmp_path):
    run = Run("a")
    for _ in range(2):
        run.begin(1, "a")
        run.fail(1, "a", [str(tmp_path / "missing.log")])
    assert sum(line == "FAILED: a" for line in run.lines) == 2
    assert sum("No such file" in line for line in run.lines) == 2


def test_warnings_and_news_without_jobs_are_not_lost():
    run = Run()
    run.handler.n_jobs = 0
    run.send(None, message="Nothing to be done (all requested files are present and up to date).")
    run.send(None, message="Building DAG of jobs...")
    run.send(None, logging.WARNING, "a warning")
    assert run.lines == ["Nothing to be done (all requested files are present and up to date).", "a warning"]


def test_a_terminal_shows_a_bar_and_what_runs():
    run = Run("a", "b", terminal=True)
    run.begin(1, "a", case="one")
    run.begin(2, "b")
    run.end(2)
    run.handler.close()
    text = run.out.getvalue()
    assert "━" in text
    assert "1 of 2 jobs, 0 s passed" in text
    assert "  a one  0 s" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again


@pytest.mark.parametrize("asked", ["dryrun", "quiet", "verbose", "printshellcmds", "debug_dag"])
def test_snakemake_s_own_listing_stays_where_it_was_asked_for(asked, monkeypatch):
    from snakemake.logging import logger

    listing = logging.StreamHandler()
    listing.name = "DefaultStreamHandler"
    monkeypatch.setattr(logger, "handlers", [listing])
    flags = dict.fromkeys(["dryrun", "quiet", "verbose", "printshellcmds", "debug_dag"], False)
    workflow = SimpleNamespace(output_settings=SimpleNamespace(**flags | {asked: True}), is_main_process=True)
    progress.show_progress(workflow)
    assert logger.handlers == [listing]
    setattr(workflow.output_settings, asked, False)
    progress.show_progress(workflow)
    assert [type(handler) for handler in logger.handlers] == [progress.Progress]


def test_time_left_is_work_over_cores_less_what_has_passed():
    left = TimeLeft({"a": [10.0, 20.0], "b": [30.0]}, 2)
    for rule, threads in [("a", 1), ("a", 1), ("b", 2)]:
        left.expect(rule, threads)
    assert left.estimate([]) == (pytest.approx((15 + 15 + 2 * 30) / 2), True)
    assert left.estimate([("b", 2, 12.0), ("a", 1, 100.0)]) == (pytest.approx((15 + 2 * 18) / 2), True)
    left.finish("a", 1, 40.0)  # this run counts, not the one before
    assert left.estimate([]) == (pytest.approx((40 + 2 * 30) / 2), True)


def test_time_left_says_when_it_knows_too_little():
    left = TimeLeft({}, 1)
    left.expect("a", 1)
    left.expect("a", 1)
    left.expect("b", 1)
    assert left.in_words([]) == "time left not known yet"
    left.finish("a", 1, 100.0)
    assert left.in_words([]) == "at least 1:40 min left"
    left.finish("b", 1, 1.0)
    assert left.in_words([]) == "about 1:40 min left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3599, "59:59 min"), (7320, "2 h 02 min")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_earlier_benchmarks_are_known(tmp_path):
    (tmp_path / "a.tsv").write_text("s\th:m:s\n12.5\t0:00:12\n")
    (tmp_path / "bad.tsv").write_text("s\n-\n")
    jobs = [job("a", benchmark=tmp_path / "a.tsv"), job("a", benchmark=tmp_path / "none.tsv"), job("b")]
    assert progress.known_seconds([*jobs, job("c", benchmark=tmp_path / "bad.tsv")]) == {"a": [12.5]}
