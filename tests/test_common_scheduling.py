"""The limit of jobs a second, whose timers keep Snakemake busy: gone where jobs run here and nobody asked for one."""

from types import SimpleNamespace

import pytest

from common.scheduling import DEFAULT_LIMIT, look_when_a_job_ends


def limit_that_stays(local, limit):
    limiter = limit and SimpleNamespace(max_jobs=limit[0], timespan=limit[1])
    workflow = SimpleNamespace(local_exec=local, scheduler=SimpleNamespace(job_rate_limiter=limiter))
    look_when_a_job_ends(workflow)
    left = workflow.scheduler.job_rate_limiter
    return left and (left.max_jobs, left.timespan)


@pytest.mark.parametrize(
    ("local", "limit", "left"),
    [
        (True, DEFAULT_LIMIT, None),
        (True, (5, 60.0), (5, 60.0)),  # somebody asked for it
        (False, DEFAULT_LIMIT, DEFAULT_LIMIT),  # a cluster may need it
        (True, None, None),
    ],
)
def test_only_the_default_limit_of_jobs_on_this_machine_is_taken_away(local, limit, left):
    assert limit_that_stays(local, limit) == left


def test_the_default_limit_is_that_of_snakemake():
    from snakemake.cli import get_argument_parser
    from snakemake.settings.types import MaxJobsPerTimespan

    limit = MaxJobsPerTimespan.parse_choice(get_argument_parser().get_default("max_jobs_per_timespan"))
    assert (limit.max_jobs, limit.timespan) == DEFAULT_LIMIT
