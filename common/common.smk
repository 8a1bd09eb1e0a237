"""What the rules of several stages use. A rule's memory and minutes are those of profiles/default unless it says otherwise."""

from common.captions import captions, files_of_article, read, titles
from common.config import MAIN, flags, load, recorded_tables, report_entry, sources
from common.names import EMBEDDED
from train.language.settings import Settings as TextSettings

R = config["results"]
FIGURES = read()
TITLES = titles(FIGURES)
FIRST = 2  # priority of figures, which appear as soon as they can
SOON = 1  # of what others wait for
TABLES = {}  # of a rule with wildcards, the files that this configuration asks for


wildcard_constraints:
    scale="(records_)?",  # a sweep of this configuration, or the recorded one of the published experiment
    curve="beta[12]",


def made_by(name):
    """Return the files of a rule, or of one of its outputs (`rule.output`)."""
    maker, _, output = name.partition(".")
    if maker in TABLES:
        return TABLES[maker]
    files = getattr(rules, maker).output
    return [getattr(files, output)] if output else list(files)


def figure_file(name):
    """Return the file of a figure, marked for the report; `name` may hold wildcards."""
    return report(f"{R}/analysis/{name}.svg", **report_entry(name, TITLES))


def drawing(name):
    """Return the settings of a figure; `cases` choose its tables and are no setting of the program."""
    return {key: value for key, value in config["analysis"].get(name, {}).items() if key != "cases"}


def training(section):
    """Return what a training needs of a cluster."""
    return {"mem_mb": 8000, "runtime": section["minutes"], "gpu": section["gpu"]}


def swept_grid(wildcards):
    """Return the flags that say which beta is swept, over which values, at which learning rates and batch sizes."""
    sweep = SWEEPS[wildcards.scale]
    grid = {"swept": wildcards.curve, **sweep["curves"][wildcards.curve]}
    return flags(grid | {name: sweep[name] for name in ("lr", "batch_size")})


def published_bests(wildcards, input):
    """Return the flag for the published bests, which exist for one sweep only."""
    return (
        flags({"published": input.published})
        if (wildcards.scale, wildcards.curve) == ("records_", "beta2")
        else ""
    )


def data_of(name):
    """Return the flag for the folder of data, where a corpus or a data set is read from one."""
    return "" if name in EMBEDDED else flags({"data_dir": config["data_dir"]})


def settings_of_run(case):
    """Return the settings of a run of one process that writes no checkpoint."""
    settings = config["train"]["sweep"]["settings"] | config["train"]["run"][case]
    return {name: value for name, value in settings.items() if name != "checkpoint_seconds"}


def corpus_of(settings):
    """Return the corpus that settings of a training name, or the program's own."""
    return settings.get("corpus", TextSettings().corpus)
