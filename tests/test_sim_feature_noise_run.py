import csv
import hashlib
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim import feature_noise_run, feature_noise_studies
from sim.feature_noise import studies
from sim.feature_noise.settings import Settings

ROOT = Path(__file__).parent.parent
MODEL = {"n_samples": 8, "patch_length": 17, "n_noise": 2, "noise_std": 0.5, "n_filters": 2, "init_std": 0.3}
MODEL |= {"lr": 1e-3, "n_epochs": 20, "n_test": 40, "n_records": 4}
SMALL = [word for name, value in MODEL.items() for word in ("--" + name.replace("_", "-"), str(value))]
BASE = Settings(n_samples=200)


def test_json_prints_errors_and_alignments(capsys):
    feature_noise_run.main([*SMALL, "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        *(
            "train_error",
            "test_error",
            "loss",
            "noise_scale",
            "signal_alignment",
            "noise_alignment",
            "settings",
        )
    }
    assert 0 <= report["test_error"] <= 1
    assert report["settings"]["n_steps"] == 80


def test_csv_same_seed_same_bytes_for_any_number_of_threads(tmp_path):
    written = []
    for n_threads in ("1", "3"):
        out = tmp_path / f"{n_threads}.csv"
        flags = ["--n-seeds", "3", "--n-threads", n_threads, "--format", "csv", "--out", str(out)]
        feature_noise_run.main([*SMALL, *flags])
        written.append(out.read_bytes())
    assert written[0] == written[1]
    rows = list(csv.DictReader(written[0].decode().splitlines()))
    assert [row["step"] for row in rows[:5]] == ["0", "1", "4", "19", "80"]
    assert {row["seed"] for row in rows} == {"0", "1", "2"}


def test_small_batches_fit_the_signal_where_the_full_batch_fits_noise(capsys):
    """The published contrast, small: 64 samples whose supports overlap; the seed was not chosen."""
    flags = "--n-samples 64 --patch-length 160 --n-noise 32 --noise-std 0.177 --n-filters 8 --lr 2e-4 --n-test 500"
    errors = {}
    for batch_size, n_epochs in ((2, 400), (64, 20_000)):
        more = ["--batch-size", str(batch_size), "--n-epochs", str(n_epochs), "--n-records", "1"]
        feature_noise_run.main([*flags.split(), *more, "--format", "json"])
        report = json.loads(capsys.readouterr().out)
        assert report["train_error"] <= 1 / 64
        errors[batch_size] = report["test_error"]
    assert errors[2] <= 0.01
    assert errors[64] >= 0.2


def test_feature_noise_is_what_makes_the_test_fail(capsys):
    """Without feature noise the full batch generalises too."""
    flags = "--n-samples 64 --patch-length 160 --n-noise 32 --noise-std 0.177 --n-filters 8 --lr 2e-4 --n-test 500"
    more = "--batch-size 64 --n-epochs 20000 --n-records 1 --feature-noise 0 --format json"
    feature_noise_run.main([*flags.split(), *more.split()])
    assert json.loads(capsys.readouterr().out)["test_error"] <= 0.1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch-size", "3"], "batch_size is 3, allowed: a divisor of n_samples = 8"),
        (["--eps", "0"], "divides by zero"),
        (["--supports", "disjoint", "--n-noise", "3"], "n_samples * n_noise is 24"),
        (["--n-noise", "17"], "allowed: 1 to patch_length - 1 = 16"),
        (["--q", "1"], "--q: is '1', allowed: a whole number >= 2"),
        (["--activation", "silu", "--q", "3"], "--q is 3, allowed only with --activation power"),
        (["--micro-batch-size", "1"], "allowed only with --optimizer invariant-adamw (--optimizer is adamw)"),
        (
            ["--optimizer", "invariant-adamw", "--micro-batch-size", "2", "--batch-size", "1"],
            "micro_batch_size is 2, allowed: a divisor of batch_size = 1",
        ),
        (["--optimizer", "sgd-momentum", "--eps", "1"], "--eps is 1.0, allowed only with --optimizer adam,"),
        (["--beta2", "1"], "allowed: a finite number >= 0 and < 1"),
    ],
)
def test_main_rejects_settings(argv, message, tmp_path, fails):
    out = tmp_path / "x.csv"
    assert message in fails(feature_noise_run.main, *SMALL, "--format", "csv", "--out", out, *argv)
    assert not out.exists()


# ---------------------------------------------------------------------------------------------------- studies
def test_table_is_the_published_one():
    cases = studies.table(BASE)
    assert list(cases) == [
        *("adam 1e-05 b100", "adam 1e-05 b2", "adamw 0.01 b100", "adamw 0.01 b2"),
        *("adam 0.05 b100", "adam 0.05 b2", "adamw 0.5 b100", "adamw 0.5 b2"),
    ]
    first = cases["adam 1e-05 b100"]
    assert (first.patch_length, first.n_noise, first.noise_std, first.feature_noise) == (1000, 100, 0.1, 0.2)
    assert (first.init_std, first.n_filters, first.lr, first.total_steps) == (0.01, 20, 5e-5, 20_000)
    assert cases["adamw 0.5 b2"].total_steps == 1_000_000


def test_steps_are_matched():
    for cap, many in ((0, 1_000_000), (60_000, 60_000)):
        cases = studies.steps(Settings(n_steps=cap))
        totals = {name: case.total_steps for name, case in cases.items()}
        assert totals["adamw b100 few steps"] == totals["adamw b2 few steps"] == 20_000
        assert totals["adamw b100 many steps"] == totals["adamw b2 many steps"] == many
        times = {name: case.lr * case.total_steps for name, case in cases.items()}
        ratio = many // 20_000
        assert times[f"adam b100 few steps, lr x {ratio}"] == pytest.approx(times["adam b2 many steps"])
        assert times[f"adam b2 many steps, lr / {ratio}"] == pytest.approx(times["adam b100 few steps"])


def test_supports_differ_in_nothing_but_overlap():
    cases = studies.supports(BASE)
    disjoint, same_size, narrow = (
        cases[f"adamw b100 {name}"] for name in ("disjoint", "n s = d", "n s >> d")
    )
    assert disjoint.n_samples * disjoint.n_noise == disjoint.patch_length - 1 == same_size.patch_length - 1
    overlap = narrow.n_samples * narrow.n_noise / narrow.patch_length
    assert overlap == pytest.approx(BASE.n_samples * BASE.n_noise / BASE.patch_length, rel=0.05)
    for name, case in cases.items():
        power = 1 if "same l1" in name else 2
        assert case.n_noise * case.noise_std**power == pytest.approx(BASE.n_noise * BASE.noise_std**power)


def test_betas_are_those_with_beta1_squared_below_beta2():
    pairs = {(case.beta1, case.beta2) for case in studies.betas(BASE).values()}
    assert pairs == {
        *((0.0, 0.5), (0.0, 0.9), (0.0, 0.95), (0.5, 0.5), (0.5, 0.9), (0.5, 0.95)),
        *((0.9, 0.9), (0.9, 0.95), (0.9, 0.99), (0.9, 0.999)),
    }


def test_optimizers_differ_from_adamw_in_what_they_are_called_by():
    cases = studies.optimizers(BASE)
    assert len(cases) == 10 * 4 + 6 + 2 * 4
    assert {case.total_steps for case in cases.values()} == {20_000}
    adamw = cases["adamw, published lr"]
    assert (adamw.batch_size, adamw.lr, adamw.weight_decay) == (100, 5e-5, 0.01)
    for size in (1, 2, 10, 50):
        case = cases[f"invariant-adamw m{size}, published lr"]
        assert case == replace(adamw, optimizer="invariant-adamw", micro_batch_size=size)
        assert cases[f"invariant-adamw m{size}, lr x 16"] == replace(case, lr=16 * 5e-5)
    assert cases["adamw b2, published lr"] == replace(adamw, batch_size=2)


def test_the_invariant_rule_is_that_of_the_library_within_its_range():
    from adam_minibatch_noise.optimizers.scaling import scale_from_reference

    cases = studies.optimizers(BASE)
    for size in (10, 50):
        case, control = cases[f"invariant-adamw m{size} by rule"], cases[f"adamw by rule of m{size}"]
        scaled = scale_from_reference(100, size, 5e-5, (0.9, 0.999))
        assert case.lr == pytest.approx(scaled.lr)
        assert (case.beta1, case.beta2) == pytest.approx(scaled.betas, abs=1e-12)
        assert control == replace(case, optimizer="adamw", micro_batch_size=1)
    assert cases["invariant-adamw m1 by rule"].beta1 == 0  # where the library refuses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "case"),
    [
        pytest.param("optimizers", "invariant-adamw m2, published lr", marks=pytest.mark.faults),
        pytest.param("activations", "silu adamw, published lr", marks=pytest.mark.faults),
    ],
)
def test_recorded_cell_is_trained_again(table, case, tmp_path):
    folder, out, how = ROOT / "records/feature_noise", tmp_path / "t.csv", tmp_path / "t.json"
    words = ["--study", table, "--n-seeds", "1", "--n-records", "1", "--cases", case, "--format", "csv"]
    feature_noise_studies.main([*words, "--out", str(out), "--how", str(how)])
    recorded = list(csv.DictReader((folder / f"{table}.csv").read_text().splitlines()))
    recorded = [row for row in recorded if row["case"] == case and row["seed"] == "0"]
    again = list(csv.DictReader(out.read_text().splitlines()))
    assert len(again) == 2
    made, here = (json.loads(path.read_text()) for path in (folder / f"{table}.json", how))
    if all(made[name] == here[name] for name in ("processor", "numba", "llvmlite", "numpy")):
        assert again == recorded
    for row, old in zip(
        again, recorded, strict=True
    ):  # rounding differs with the processor, and grows on the way
        assert float(row["test_error"]) == pytest.approx(float(old["test_error"]), abs=0.1)
        assert float(row["train_error"]) == pytest.approx(float(old["train_error"]), abs=0.01)


def test_choices_sum_is_a_larger_gradient():
    cases = studies.choices(BASE)
    assert len(cases) == 32
    mean, summed = (cases[f"adam q3 {form} plain"] for form in ("eps-outside", "summed"))
    assert summed.weight_decay == mean.weight_decay / 100
    assert summed.eps == mean.eps / 100
    assert cases["adamw q3 summed plain"].weight_decay == cases["adamw q3 eps-outside plain"].weight_decay


@pytest.mark.parametrize("study", studies.STUDIES)
def test_every_case_of_a_study_can_be_run(study):
    for base in (BASE, Settings(n_samples=64, patch_length=160, n_noise=32)):
        cases = studies.STUDIES[study].cases(base)
        assert len(cases) >= 8
        for case in cases.values():
            case.check()


def test_studies_run_and_name_their_cases(tmp_path, capsys):
    out = tmp_path / "t.csv"
    flags = ["--study", "table", "--n-seeds", "2", *SMALL]
    feature_noise_studies.main([*flags, "--cases", "adamw 0.01", "--format", "csv", "--out", str(out)])
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(dict.fromkeys(row["case"] for row in rows)) == ["adamw 0.01 b4", "adamw 0.01 b2"]
    feature_noise_studies.main([*flags, "--cases", "adamw 0.01 b4"])
    assert capsys.readouterr().out.splitlines()[2].split()[:4] == ["adamw", "0.01", "b4", "2"]


def test_studies_reject_cases_that_are_not_there(fails):
    complaint = fails(feature_noise_studies.main, "--study", "table", *SMALL, "--cases", "sgd")
    assert "--cases is 'sgd', allowed: parts of the names adam 1e-05 b4; adam 1e-05 b2; adamw" in complaint
    assert all(name in complaint for name in studies.table(Settings(n_samples=8)))
    assert "allowed for disjoint supports" not in fails(feature_noise_studies.main, "--study", "tables")


def test_how_says_how_to_make_the_same_table_again(tmp_path, fails, monkeypatch):
    out, how = tmp_path / "t.csv", tmp_path / "t.json"
    words = ["--study", "table", "--n-seeds", "1", *SMALL, "--cases", "adamw 0.01", "--format", "csv"]
    feature_noise_studies.main([*words, "--out", str(out), "--how", str(how)])
    made = json.loads(how.read_text())
    assert made["numpy"] == np.__version__
    assert made["cpu_seconds"] > 0
    assert re.fullmatch(r"\S.*, (no )?AVX-512", made["processor"])
    assert made["sha256_table"] == hashlib.sha256(out.read_bytes()).hexdigest()
    source = Path(feature_noise_studies.__file__)
    assert (
        made["sha256_sources"]["sim/feature_noise_studies.py"]
        == hashlib.sha256(source.read_bytes()).hexdigest()
    )
    assert "sim/feature_noise/kernels.py" in made["sha256_sources"]
    before = out.read_bytes()
    again = shlex.split(made["command"])
    files = ["--out", str(out), "--how", str(how)]
    assert again == ["python", "-m", "sim.feature_noise_studies", *words, *files]
    out.unlink()
    monkeypatch.setattr(sys, "argv", ["studies.py", *again[3:]])
    feature_noise_studies.main()  # as from a shell
    assert out.read_bytes() == before
    assert shlex.split(json.loads(how.read_text())["command"]) == again
    assert "--how says how the file of --out was made" in fails(
        feature_noise_studies.main, *words, "--how", how
    )


def test_every_recorded_table_is_the_one_that_was_made():
    tables = sorted((ROOT / "records/feature_noise").glob("*.csv"))
    assert len(tables) > 8
    for table in tables:
        made = json.loads(table.with_suffix(".json").read_text())
        assert made["sha256_table"] == hashlib.sha256(table.read_bytes()).hexdigest(), table.name
