"""The workflow as a person runs it: in a copy of the repository, with the small configuration."""

import json
import os

import pytest
import yaml

from tests.checkouts import copy_to, snakemake

pytestmark = pytest.mark.slow


def jobs(done):
    """Rules that a dry run would run."""
    lines = done.stdout.splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))} - {
        "all"
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Copy what git would give a newcomer, run everything once."""
    folder = copy_to(tmp_path_factory.mktemp("checkout"))
    done = snakemake(folder)
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("results-test/logs/**/*.log")))
    assert done.returncode == 0, done.stderr[-3000:] + logs[-3000:]
    return folder


def test_article_holds_the_numbers_of_this_run(checkout):
    from pypdf import PdfReader

    text = " ".join(
        page.extract_text() for page in PdfReader(checkout / "results-test/paper/article.pdf").pages
    )
    text = " ".join(text.split())
    numbers = json.loads((checkout / "results-test/analysis/article_numbers.json").read_text())
    assert f"{numbers['runs']['n_params']} parameters" in text
    assert f"trained {numbers['runs']['n_runs']} times" in text
    assert (
        f"violated in {numbers['expectation']['n_violated']} of {numbers['expectation']['n_settings']}"
        in text
    )
    for cell in [*numbers["sweep"]["beta2"], *numbers["sweep"]["beta1"]]:
        assert str(float(f"{cell['mean']:.4g}")).removesuffix(".0") in text
    assert f"{numbers['noise_scale']['n_samples']} windows was taken" in text
    assert f"{len(numbers['recorded']['beta2'])} settings" in text
    assert "0.508187004519522856" in text


def test_second_run_does_nothing(checkout):
    assert "Nothing to be done" in snakemake(checkout).stderr


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("analysis/plot_c_total.py", {"plot_c_total", "article"}),
        ("analysis/sturm.py", {"certify", "article_numbers", "article"}),
        ("sim/monte_carlo/kernels.py", {"sim_expectation", "plot_expectation", "article_numbers", "article"}),
        ("analysis/records_index.py", set()),
        ("analysis/plot_best_beta2.py", {"plot_best_beta2", "article_numbers", "article"}),
        (
            "train/optimizers.py",
            {"train_sweep", "train_run", "train_noise_scale", "plot_sweep", "best_betas", "plot_best_beta2"}
            | {"plot_noise_scale", "article_numbers", "article"},
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


def test_lint_is_clean(checkout):
    done = snakemake(checkout, "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("resulst: x", ["resulst"]),
        ("sim: {expectation: {settings: {noise: -1}}}", ["sim.expectation.settings.noise", "-1", "minimum"]),
        (
            "train: {sweep: {curves: {beta2: {beta1: [0.9], beta2: [1.0]}}}}",
            ["train.sweep.curves.beta2.beta2.0", "1.0", "Maximum"],
        ),
        ("train: {sweep: {settings: {lerning_rate: 1}}}", ["train.sweep.settings", "lerning_rate"]),
        ("results: /elsewhere", ["results", "/elsewhere", "pattern"]),
    ],
)
def test_rejects_bad_configuration_in_one_line(checkout, line, words, tmp_path):
    (tmp_path / "bad.yaml").write_text(line + "\n")
    done = snakemake(checkout, config=str(tmp_path / "bad.yaml"))
    assert done.returncode == 2
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith("Config file ")
    ]  # Snakemake's news
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines
