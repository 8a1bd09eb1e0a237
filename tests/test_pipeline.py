"""The workflow as a person runs it: in a copy of the repository, with the small configuration."""

import json
import os
import re
import subprocess
import sys
from html import unescape

import pytest
import yaml

from common import captions
from tests import browser
from tests.checkouts import copy_to, snakemake, take_back

pytestmark = pytest.mark.slow
CUT = browser.CUT if browser.can_cut() else ()
needs_cut = pytest.mark.skipif(not CUT, reason="no network namespaces here (unshare --map-root-user --net)")


def jobs(done):
    """Rules that a dry run would run."""
    lines = done.stdout.splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))} - {
        "all"
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Copy what git would give a newcomer, run everything once, with the network cut where that can be done."""
    folder = copy_to(tmp_path_factory.mktemp("checkout"))
    done = snakemake(folder, prefix=CUT)
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("results-test/logs/**/*.log")))
    assert done.returncode == 0, done.stderr[-3000:] + logs[-3000:]
    take_back(folder)
    return folder


def test_article_holds_the_numbers_of_this_run(checkout):
    from pypdf import PdfReader

    pages = [page.extract_text() for page in PdfReader(checkout / "results-test/paper/article.pdf").pages]
    first_appendix = next(i for i, page in enumerate(pages) if "A. The memory, removed" in page)
    assert first_appendix <= 8  # pages of the main part, the one where it ends not counted
    last = next(i for i, page in enumerate(pages) if "Bibliography" in page)
    assert not any("Figure" in line[:7] for page in pages[last + 1 :] for line in page.splitlines())
    text = " ".join(pages)
    text = " ".join(text.split())
    numbers = json.loads((checkout / "results-test/analysis/article_numbers.json").read_text())
    assert f"{numbers['runs']['n_params']} parameters" in text
    assert f"Of the {numbers['runs']['n_runs']} training runs of the language model" in text
    language = json.loads((checkout / "results-test/analysis/overfitting.json").read_text())["text"]
    assert f"{sum(cell['n_runs'] for cell in language['cells'])} runs, four seeds" in text
    said = re.search(r"by at most ([\d.]+) %, the limit by up to ([\d.]+) %", text)
    miss = numbers["expectation"]["largest_miss_percent"]
    assert [float(x) for x in said.groups()] == pytest.approx([miss["exact"], miss["predicted"]], rel=0.05)
    for row in language["slopes"]:
        if row["curve"] == "beta2":
            assert str(float(f"{row['slope']:.2g}")).removesuffix(".0").replace("-", "−") in text
    assert f"{numbers['noise_scale']['n_samples']} windows was taken" in text
    assert f"{len(numbers['recorded']['beta2'])} settings" in text
    assert "0.508187004519522856" in text


def test_second_run_does_nothing(checkout):
    assert "Nothing to be done" in snakemake(checkout).stderr


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("analysis/plot_c_total.py", {"plot_c_total", "article"}),
        ("analysis/proofs/sturm.py", {"certify", "article_numbers", "article"}),
        ("sim/monte_carlo/corr.py", {"sim_expectation", "plot_expectation", "article_numbers", "article"}),
        ("analysis/records_index.py", set()),
        ("analysis/plot_best_beta2.py", {"plot_best_beta2", "article_numbers", "article"}),
        (
            "adam_minibatch_noise/optimizers/adam.py",
            {"train_sweep", "train_run", "train_noise_scale", "plot_sweep", "best_betas", "plot_best_beta2"}
            | {
                "plot_noise_scale",
                "train_image_sweep",
                "plot_image_sweep",
                "article_numbers",
                "article",
                "explorer",
            },
        ),
        ("paper/article.typ", {"article"}),
    ],
)
def test_editing_a_module_reruns_just_what_depends_on_it(checkout, module, expected):
    path = checkout / module
    before, times = path.read_text(), path.stat()
    path.write_text(before + ("\n// edited\n" if path.suffix == ".typ" else "\n# edited\n"))
    try:
        assert jobs(snakemake(checkout, "--dry-run")) == expected
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_changed_setting_reruns_what_depends_on_it(checkout):
    settings = yaml.safe_load((checkout / "config/test.yaml").read_text())
    settings["analysis"]["plot_c_total"] = {"beta1": 0.8}
    (checkout / "config/changed.yaml").write_text(
        yaml.safe_dump(settings, sort_keys=False)
    )  # order is that of the flags
    assert jobs(snakemake(checkout, "--dry-run", config="config/changed.yaml")) == {
        "plot_c_total",
        "article",
        "configuration",
    }


def test_an_edited_caption_reruns_the_article_alone(checkout):
    path = checkout / captions.FIGURES
    before, times = path.read_text(), path.stat()
    path.write_text(before.replace("Dotted: the turn.", "Dotted: where it turns."))
    try:
        assert jobs(snakemake(checkout, "--dry-run")) == {"article"}
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_workflow_says_what_it_does_and_where_the_listing_is(tmp_path):
    """Of its own folder, since it removes a result."""
    folder = copy_to(tmp_path)
    target = "results-test/analysis/certify.csv"
    done = snakemake(folder, target)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stderr.splitlines() if "onfig" not in line and "profile" not in line]
    assert shown[0] == "1 jobs to do; running: certify"
    assert re.fullmatch(r"1 of 1 jobs, \d+ s passed, about 0 s left: certify took \d+ s", shown[1])
    assert re.fullmatch(r"1 of 1 jobs done, \d+ s", shown[2])
    (listing,) = re.findall(r"^listing: (\.snakemake/log/.*\.log)$", shown[3])
    assert "python -m" not in done.stderr
    assert "rule certify:" in (folder / listing).read_text()
    (folder / "analysis/certify.py").write_text(
        "raise ValueError('planted')\nif __name__ == \"__main__\":\n    run(main)\n"
    )
    done = snakemake(folder, target)
    assert done.returncode == 1
    assert "FAILED: certify\n  command: python -m analysis.certify --format csv" in done.stderr
    assert "    ValueError: planted" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("resulst: x", ["resulst"]),
        ("sim: {expectation: {noise: -1}}", ["sim.expectation.noise", "-1", "minimum"]),
    ],
)
def test_rejects_bad_configuration_in_one_line(checkout, line, words, tmp_path):
    """What is refused besides: tests/test_common_config.py."""
    (tmp_path / "bad.yaml").write_text(line + "\n")
    done = snakemake(checkout, config=str(tmp_path / "bad.yaml"))
    assert done.returncode == 2
    lines = [
        line
        for line in done.stderr.splitlines()
        if not line.startswith(("Config file ", "Using workflow specific profile "))
    ]  # Snakemake's news
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines


@needs_cut
def test_everything_was_made_without_a_network(checkout):
    """The fixture ran behind `CUT`; here it is shown that nothing gets out from there, not even to this machine."""
    code = "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=5)"
    done = subprocess.run([*CUT, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr
    assert (checkout / "results-test/paper/article.pdf").is_file()


@pytest.fixture(scope="module")
def report(checkout):
    done = snakemake(checkout, "--report", "results-test/report.html", before=())
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ERROR" not in done.stderr, done.stderr[-3000:]  # of a caption
    return checkout / "results-test/report.html"


@needs_cut
@pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed (Debian: chromium)")
def test_report_shows_every_figure_with_its_caption_without_a_network(report, checkout, tmp_path):
    figures = {path.name for path in (checkout / "results-test/analysis").rglob("*.svg")}
    assert len(figures) > 9
    with browser.Page(report.as_uri(), tmp_path) as page:
        open_menu(page, "Figures")
        rows = page.run(
            "[...document.querySelectorAll('tbody tr')].map(row => row.cells[1].innerText.trim())"
        )
        assert {os.path.basename(row) for row in rows} == figures
        assert len(rows) == len(figures)
        seen = set()
        for i, row in enumerate(rows):
            page.run(f"document.querySelectorAll('tbody tr')[{i}].querySelectorAll('a')[0].click()")
            name = os.path.basename(row)
            image = f"document.querySelector('img[src*=\"filename={name};\"]')"
            page.wait_for(f"{image} && {image}.complete && {image}.naturalWidth > 100")
            seen.add(page.run(f"{image}.src.length + {image}.src.slice(-2000)"))
            page.screenshot(tmp_path / f"{i}.png", image)
            assert n_colours(tmp_path / f"{i}.png") > 50, name  # not the page around it
        assert len(seen) == len(figures)
        for i, row in enumerate(rows):
            page.run(f"document.querySelectorAll('tbody tr')[{i}].querySelectorAll('a')[1].click()")
            page.wait_for("document.body.innerText.includes('SNAKEMAKE RULE')")
            assert caption(row) in " ".join(page.run("document.body.innerText").split())
            page.run("[...document.querySelectorAll('a')].find(link => link.innerText == 'Figures').click()")
            page.wait_for("document.querySelectorAll('tbody tr').length > 1")
        assert page.faults_in_the_end() == []


@needs_cut
@pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed (Debian: chromium)")
def test_report_shows_configuration_and_run_times(report, checkout, tmp_path):
    with browser.Page(report.as_uri(), tmp_path) as page:
        page.wait_for("document.querySelector('#rulegraph canvas, #rulegraph svg')")
        opening = page.run(
            "(box => [box.top, box.left, box.height])(document.querySelector('.document').getBoundingClientRect())"
        )
        assert opening[2] > page.run("innerHeight")  # or its top would be seen wherever it stands
        assert min(opening) >= 0  # nothing above the window, where no one can scroll
        open_menu(page, "Statistics")
        page.wait_for("document.querySelectorAll('canvas.marks, svg.marks').length == 2")
        open_menu(page, "Configuration")
        page.run("document.querySelector('tbody tr a').click()")
        page.wait_for("document.querySelector('iframe')")
        page.screenshot(tmp_path / "configuration.png")
        assert page.faults_in_the_end() == []
    shown = unescape(
        re.search("<pre>(.*)</pre>", (checkout / "results-test/configuration.html").read_text(), re.DOTALL)[1]
    )
    settings = yaml.safe_load(shown)
    assert settings["results"] == "results-test"
    assert settings["sim"]["expectation"]["n_samples"] == 64  # of config/test.yaml
    assert settings["sim"]["expectation"]["problem"] == "least-squares"  # of config/config.yaml


def open_menu(page, name):
    """Click an entry of the menu once it is there."""
    link = f"[...document.querySelectorAll('a')].find(link => link.innerText.trim() == '{name}')"
    page.wait_for(link + " !== undefined")
    page.run(link + ".click()")


def caption(file):
    """Text that the report must show for a figure: the beginning of its caption, as a browser shows it."""
    name = file.split("analysis/")[-1].removesuffix(".svg")
    text = captions.captions(captions.read())[name]
    return re.sub(r"\\ (?::sub:`(\w+)`\\ ?)?", r"\1", text)[:60]


def n_colours(png):
    import matplotlib.image
    import numpy as np

    pixels = np.round(matplotlib.image.imread(png)[..., :3] * 255).astype(int)
    return len(np.unique(pixels @ [1, 256, 65536]))
