"""When Snakemake looks for jobs that can start."""

from typing import Any

DEFAULT_LIMIT = (100, 1.0)
"""Snakemake's own limit of jobs a second, where none was asked for."""


def look_when_a_job_ends(workflow: Any) -> None:
    """Take away the limit of jobs a second where jobs run on this machine and nobody asked for a limit.

    With a limit Snakemake 9 sets a timer whenever a job ends; each one looks at all inputs of all jobs that wait, a
    second later, and sets the next. After n jobs it does so n times a second: a tenth of all work in a run of 80 jobs.
    Without a limit it looks when a job has ended, which is when there is a core for another one.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        When its scheduler exists and has not begun (``onstart``).
    """
    limiter = workflow.scheduler.job_rate_limiter
    if workflow.local_exec and limiter is not None and (limiter.max_jobs, limiter.timespan) == DEFAULT_LIMIT:
        workflow.scheduler.job_rate_limiter = None
