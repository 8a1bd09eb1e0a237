"""The article is set from files; what is missing is named, and nothing half set is left."""

import re
from pathlib import Path

import pytest

from analysis import article
from common.config import recorded_tables
from tests.checkouts import copy_to, snakemake

PAPER = Path(__file__).parent.parent / "paper"
TEXTS = [PAPER / "article.typ", PAPER / "helpers.typ", *sorted((PAPER / "sections").glob("*.typ"))]


def test_rejects_results_outside_the_project(fails, tmp_path):
    assert "--results" in fails(article.main, "--results", tmp_path, "--out", tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_names_the_missing_file(fails, tmp_path):
    complaint = fails(article.main, "--results", "results-nowhere", "--out", tmp_path / "a.pdf")
    assert "article_numbers.json" in complaint
    assert not (tmp_path / "a.pdf").exists()


def test_names_the_missing_source(fails, tmp_path):
    complaint = fails(
        article.main, "--source", "paper/none.typ", "--results", "paper", "--out", tmp_path / "a.pdf"
    )
    assert "none.typ" in complaint


def asked_for(text):
    """Patterns of the files of results that a text reads, `results + "/a/b.json"`, or shows, `#fig("b")`."""
    read = re.findall(r'results \+ "([^"]*)"(?! \+)', text)
    shown = re.findall(r'#fig\("([^"]*)"', text)
    return {re.escape(path) for path in (*read, *(f"/analysis/{name}.svg" for name in shown))}


def test_every_file_of_the_text_is_found():
    text = 'json(results + "/c.json") #fig("a/b", note: [x]) <l> [#fig("d")]'
    assert asked_for(text) == {r"/c\.json", r"/analysis/a/b\.svg", r"/analysis/d\.svg"}
    for path in TEXTS:
        text = path.read_text()
        n_found = len(re.findall(r'results \+ "[^"]*"(?! \+)|#fig\("', text))
        made_up = path.name == "helpers.typ"  # what `fig` itself reads
        assert n_found + made_up == text.count("results +") + text.count("#fig("), path.name


@pytest.mark.slow
def test_inputs_of_the_rule_are_the_files_that_the_text_reads(tmp_path):
    wanted = set().union(*(asked_for(path.read_text()) for path in TEXTS))
    if not recorded_tables(
        str(PAPER.parent / "records/train/noise_scale")
    ):  # the text then leaves out their figure
        wanted -= {re.escape("/analysis/records_plot_noise_scale.svg")}
    done = snakemake(copy_to(tmp_path), "--dry-run", "--forceall", "results-test/paper/article.pdf")
    (inputs,) = re.findall(r"^rule article:\n    input: (.*)$", done.stdout, re.MULTILINE)
    names = [
        name.removeprefix("results-test") for name in inputs.split(", ") if name.startswith("results-test/")
    ]
    missing = [pattern for pattern in wanted if not any(re.fullmatch(pattern, name) for name in names)]
    assert missing == []
    unread = [name for name in names if not any(re.fullmatch(pattern, name) for pattern in wanted)]
    assert [
        name for name in unread if not name.endswith(".csv")
    ] == []  # tables come with the figures of their rule
