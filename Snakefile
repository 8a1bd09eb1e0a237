"""Simulations, training, figures and the article. Each stage has its rules beside its code."""

import sys

import grimp
from snakemake.utils import min_version

from analysis.config import check, flags, grid
from sim.records import InputError

min_version("9.27")


configfile: "config/config.yaml"


try:
    check(config, "config/config.schema.yaml")
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

R = config["results"]
GRAPH = grimp.build_graph("sim", "train", "analysis", cache_dir=None)


def sources(*modules):
    """Return the files of `modules` and of all they import: a changed import must re-run the rule."""
    found = set(modules).union(*(GRAPH.find_upstream_modules(module) for module in modules))
    return sorted(
        f"{name.replace('.', '/')}/__init__.py" if name in ("sim", "train", "analysis") else f"{name.replace('.', '/')}.py"
        for name in found
    )


include: "sim/rules.smk"
include: "train/rules.smk"
include: "analysis/rules.smk"
include: "paper/rules.smk"


rule all:
    default_target: True
    input:
        f"{R}/paper/article.pdf",
