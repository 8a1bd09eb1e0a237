"""The article is set from files; what is missing is named, and nothing half set is left."""

from analysis import article


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
