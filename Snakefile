"""Simulations, training, figures and the article. Each stage has its rules beside its code."""

import json
import os
import sys

from snakemake.utils import min_version

from adam_minibatch_noise.errors import InputError
from common.config import check
from common.files import WORKFLOW_LOCK, take_lock
from common.progress import show_progress
from common.scheduling import look_when_a_job_ends
from common.story import opening

min_version("9.27")


configfile: "config/config.yaml"


report: "paper/captions/report.rst"


try:
    check(config, "config/config.schema.yaml")
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
show_progress(workflow)


include: "common/common.smk"
include: "sim/rules.smk"
include: "train/rules.smk"
include: "analysis/rules.smk"
include: "paper/rules.smk"


SETTINGS = dict(config)
config["captions"] = captions(FIGURES)  # what paper/captions/figure.rst shows in the report
config["story"] = opening(R) if "--report" in sys.argv else ""  # likewise paper/captions/report.rst


onstart:
    global LOCK  # held until this process ends, in whatever way; the jobs that it started here then end, too
    try:
        LOCK = take_lock(f"{R}/workflow")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    look_when_a_job_ends(workflow)
    shell.prefix(f"set -euo pipefail; export {WORKFLOW_LOCK}={LOCK.name}; ")


rule configuration:
    output:
        report(
            f"{R}/configuration.html",
            caption="paper/captions/configuration.rst",
            category="Configuration",
            labels={"file": "configuration"},
        ),
    log:
        f"{R}/logs/configuration.log",
    localrule: True
    conda:
        "envs/analysis.yaml"
    params:
        settings=json.dumps(SETTINGS),
    shell:
        "python -m common.results page --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule all:
    default_target: True
    input:
        f"{R}/paper/article.pdf",
        f"{R}/configuration.html",
        f"{R}/explorer.html",
