"""`make clean` removes what one configuration makes, and nothing else."""

import base64

import pytest

from adam_minibatch_noise.errors import InputError
from common import results
from common.files import locked


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two configurations with results and Snakemake's notes on them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("results: results\ndata_dir: null\n")
    (tmp_path / "config/it's full.yaml").write_text("results: results-full\n")
    for name in ("results", "results-full"):
        (tmp_path / name / "sim").mkdir(parents=True)
        (tmp_path / name / "sim/a.csv").write_text("1\n")
        note(f"{name}/sim/a.csv").write_text("{}")
    return tmp_path


def note(name):
    """Where Snakemake keeps its note on a file; it splits long names."""
    code = base64.urlsafe_b64encode(name.encode()).decode()
    path = results.SNAKEMAKE_NOTES[0] / f"@{code[:9]}" / code[9:]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_remove_takes_the_results_of_one_configuration_and_says_so(folder, capsys):
    results.main(["remove"])
    assert capsys.readouterr() == (
        "removed results: 1 files, 0.0 MB\n",
        "left results-full: `make clean RESULTS=results-full` removes it\n",
    )
    assert not (folder / "results").exists()
    assert not note("results/sim/a.csv").exists()
    assert (folder / "results-full/sim/a.csv").exists()
    assert note("results-full/sim/a.csv").exists()


@pytest.mark.parametrize(
    "flags", [["--configuration", "config/it's full.yaml"], ["--folder", "results-full"]]
)
def test_others_are_removed_by_name(folder, flags):
    results.main(["remove", *flags])
    assert not (folder / "results-full").exists()
    assert (folder / "results/sim/a.csv").exists()


def test_nothing_to_remove_is_no_error(folder, capsys):
    results.main(["remove", "--folder", "results-none"])
    assert "removed results-none: 0 files" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["..", "config", "/", "results/../config", "results/sim", "~", "results*"])
def test_rejects_what_is_no_folder_of_results(folder, fails, name):
    assert f"results is {name}, allowed" in fails(results.main, "remove", "--folder", name)
    assert (folder / "config/config.yaml").exists()


def test_rejects_a_file_that_is_no_configuration(folder, fails):
    (folder / "config/bad.yaml").write_text("a: [\n")
    assert "is not YAML" in fails(results.main, "name", "--configuration", "config/bad.yaml")
    assert "No such file" in fails(results.main, "name", "--configuration", "config/none.yaml")


def test_refuses_while_a_workflow_works_on_them(folder):
    with (
        locked(folder / "results/workflow"),
        pytest.raises(InputError, match="another process is working on it"),
    ):
        results.remove("results")
    assert (folder / "results/sim/a.csv").exists()


def test_show_names_what_is_there(folder, capsys):
    (folder / "results/paper").mkdir()
    (folder / "results/paper/article.pdf").touch()
    results.main(["show"])
    assert capsys.readouterr().out.splitlines() == [
        " article: results/paper/article.pdf",
        "  report: `make report` writes results/report.html",
    ]


def test_page_shows_the_configuration_and_refuses_what_is_none(tmp_path, fails):
    out = tmp_path / "page.html"
    results.main(["page", "--settings", '{"data_dir": "/my texts/it\'s <here>"}', "--out", str(out)])
    assert "data_dir: /my texts/it&#x27;s &lt;here&gt;" in out.read_text()
    for bad in ("{", "[1]"):
        fails(results.main, "page", "--settings", bad, "--out", tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
