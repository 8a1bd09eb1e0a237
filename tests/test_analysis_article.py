"""The article is set from files; what is missing is named, and nothing half set is left."""

import json
import re
import shutil
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


def test_what_the_text_says_of_the_language_model_follows_its_numbers(tmp_path, monkeypatch):
    """Each assertion is one of typst; a wrong one ends the setting with a message."""
    slopes = [
        {"curve": "beta1", "lr": lr, "slope": 0.0, "low": low, "high": high, "verdict": "open"}
        for lr, low, high in ((0.001, -2, -1), (0.002, 1, 2), (0.006, -1, 1), ("tuned", None, None))
    ]
    cells = [
        {"lr": "tuned", "batch_size": 8, "beta1": a, "beta2": b, "excess": excess, "status": status}
        for a, b, excess, status in (
            (0.5, 0.5, 3.0, "worse"), (0.9, 0.9, 2.0, "worse"), (0.9, 0.999, 0.0, "best"), (0.99, 0.99, 7.0, "worse"),
            (0.999, 0.999, None, "unfinished"),
        )
    ]  # fmt: skip
    tops = [{"curve": "beta1", "batch_size": size, "at_end": size == 8} for size in (8, 128)]
    gains = [
        {"curve": "beta1", "metric": "test_loss", "verdict": verdict, "gain": gain, "batch_size": size}
        for verdict, gain, size in (("holds", 2.0, 8), ("holds", 0.5, 9), ("open", 3.0, 10))
    ]
    text = {"slopes": slopes, "map_cells": cells, "tops": tops, "gains": gains}
    results = tmp_path / "results/analysis"
    results.mkdir(parents=True)
    (results / "article_numbers.json").write_text("{}")
    here = {name: [] for name in ("variants", "slopes", "gains", "bests", "rules")}
    (results / "overfitting.json").write_text(json.dumps({"records": {}, "here": here, "text": text}))
    for name in ("helpers.typ", "figures.yaml"):
        shutil.copy(PAPER / name, tmp_path)
    (tmp_path / "a.typ").write_text(
        """#import "helpers.typ": *
        #let plain(it) = {
          if it.has("text") { it.text } else if it.has("children") { it.children.map(plain).join() } else { " " }
        }
        #assert.eq(of-language("slopes").map(direction), (-1, 1, 0, 0))
        #assert.eq(
          plain(language-trend-of("beta1")).replace(regex("\\s+"), " "),
          "falls at a learning rate of 0.001, rises at a learning rate of 0.002, shows no clear trend at a learning "
            + "rate of 0.006 and shows no clear trend once it is tuned",
        )
        #assert.eq(language-trend-of("beta2"), none)
        #assert.eq(sizes-at-end("beta1"), ("8",))
        #assert.eq(sizes-at-end("diagonal"), ())
        #assert.eq(equal-best("tuned", 8).beta1, 0.9)
        #assert.eq(equal-best("tuned", 9), none)
        #assert.eq(highest-equal, 0.99)
        #assert.eq(beta1-gains.map(row => row.batch_size), (8,))
        #assert.eq((9.96, -0.04, 0.44, -12.6).map(percent), ("10", "0", "0.4", "\\u{2212}13"))
        """
    )
    monkeypatch.chdir(tmp_path)
    article.main(["--source", "a.typ", "--results", "results", "--out", "a.pdf"])
    assert Path("a.pdf").exists()


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
