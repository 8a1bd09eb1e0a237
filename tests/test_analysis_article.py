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
    """Patterns of the files below the results folder that a text reads: `results + "/a/" + (...) + "b.svg"`."""
    piece = r'"([^"]*)"'
    found = re.findall(rf"results \+ {piece}(?: \+ \((?:[^()]|\([^()]*\))*\) \+ {piece})?", text)
    return {re.escape(start) + (f".+{re.escape(end)}" if end else "") for start, end in found}


def test_every_file_of_the_text_is_found():
    text = """image(results + "/a/b.svg", width: 1) #json(results + "/c.json")
    image(results + "/d/" + (if "x" in p { f("y") } else { "z" }) + "_e.svg")"""
    assert asked_for(text) == {r"/a/b\.svg", r"/c\.json", r"/d/.+_e\.svg"}
    for path in TEXTS:
        text = path.read_text()
        assert len(re.findall(r"results \+", text)) == text.count('results + "/'), path.name


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
