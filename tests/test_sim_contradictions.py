"""Flags that contradict each other are refused in every simulation program, and only what was used is recorded."""

import csv
import dataclasses
import importlib
import io
import json
import shlex

import numpy as np
import pytest

from common import config, settings
from common.settings import Number
from sim.feature_noise.studies import STUDIES
from sim.losses.problems import make_least_squares
from tests.malformed import main_of, parser_of, required
from tests.test_architecture import PROGRAMS, ROOT

SIM = [program for program in PROGRAMS if program.startswith("sim.")]


def settings_of(program):
    return importlib.import_module(program).Settings


def conditions():
    """Every setting with a condition, and for each of its alternatives one way to break it."""
    for program in SIM:
        for field in dataclasses.fields(settings_of(program)):
            if field.metadata.get("only_with"):
                yield program, field.name


def word_for(cls, name, allowed):
    """Words that give setting `name` a value that is not among `allowed`."""
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    if isinstance(field.default, bool):
        return [settings.flag(name) if allowed == (False,) else settings.flag(f"no_{name}")]
    choices = field.metadata["choices"]
    if choices:
        return [settings.flag(name), next(choice for choice in choices if choice not in allowed)]
    kind = field.metadata["kind"]
    return [settings.flag(name), ("7" if kind.holds(7) else "0.5") if isinstance(kind, Number) else "x.npz"]


@pytest.mark.parametrize(("program", "name"), list(conditions()))
def test_a_setting_is_refused_where_it_has_no_meaning_and_its_cell_is_empty(fails, program, name):
    cls = settings_of(program)
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    breaking = {}
    for alternative in field.metadata["only_with"]:
        other, allowed = next(iter(alternative.items()))
        breaking[other] = word_for(cls, other, tuple(allowed))
    own = word_for(cls, name, ()) if not isinstance(field.default, bool) else [settings.flag(name)]
    free = [word for word in required(parser_of(program)) if "study" not in breaking]
    words = [*free, *(word for pair in breaking.values() for word in pair)]
    complaint = fails(main_of(program), *words, *own)
    assert complaint.startswith(f"error: {own[0]}"), complaint
    assert "allowed only with" in complaint
    args = parser_of(program).parse_args(words)
    assert settings.used(settings.from_flags(cls, args))[name] is None


OF_OPTIMIZERS = "beta1 beta2 beta3 eps_root eps delta alpha power weight_decay"
NOT_ADAM = "beta3 delta alpha power weight_decay"
NOT_SGD = "beta2 beta3 eps_root eps delta alpha power weight_decay"
EXPECTED = {
    "sim.expectation": "problem n_samples n_params noise problem_seed n_permutations seed control_variate "
    f"{OF_OPTIMIZERS} micro_batch_size",
    "sim.exact": f"problem n_samples n_params noise problem_seed {OF_OPTIMIZERS} micro_batch_size",
    "sim.terms": f"problem n_samples n_params noise problem_seed {OF_OPTIMIZERS} optimizer method n_permutations "
    "seed cnn n_filters patch_length n_epochs micro_batch_size",
    "sim.closeness": f"{OF_OPTIMIZERS} micro_batch_size",
    "sim.turning": "beta1 beta2 beta3 alpha power micro_batch_size",
    "sim.constants": "",
    "sim.invariance": "",
    "sim.feature_noise_run": "q beta2 eps eps_root bias_correction micro_batch_size n_epochs",
    "sim.feature_noise_studies": "supports activation q optimizer weight_decay beta1 beta2 eps eps_root "
    "bias_correction micro_batch_size replacement n_epochs",
    "sim.optimizer_bias": "",
    "sim.overfitting": "label_noise embedding micro_batch_size beta1 beta2 eps",
    "sim.overfitting_noise": "",
    "sim.overfitting_study": "",
}


@pytest.mark.parametrize("program", SIM)
def test_settings_with_conditions_are_the_known_ones(program):
    assert {name for of, name in conditions() if of == program} == set(EXPECTED[program].split())


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        (
            "sim.expectation",
            "--problem-file P --problem quadratics --n-samples 32",
            "--problem is quadratics",
        ),
        (
            "sim.expectation",
            "--problem-file P --noise 0.02",
            "--noise is 0.02, allowed only without --problem-file",
        ),
        ("sim.exact", "--problem-file P --problem-seed 0", "--problem-seed is 0"),
        ("sim.terms", "--cnn --problem quadratics", "--problem is quadratics, allowed only without --cnn"),
        ("sim.terms", "--cnn --problem-file P", "--cnn, allowed only without --problem-file"),
        ("sim.terms", "--patch-length 5", "--patch-length is 5, allowed only with --cnn"),
        (
            "sim.terms",
            "--method enumerate --n-permutations 5",
            "--n-permutations is 5, allowed only with --method",
        ),
        (
            "sim.terms",
            "--study lines --method montecarlo",
            "--method is montecarlo, allowed only with --study terms",
        ),
        (
            "sim.terms",
            "--study moments --beta1 0.5",
            "--beta1 is 0.5, allowed only with --study terms or lines",
        ),
        (
            "sim.terms",
            "--optimizer sgd-momentum --eps-root 0",
            "--eps-root is 0.0, allowed only with --optimizer adam, adamw, rmsprop, nadam, adam-p, ademamix or "
            "invariant-adam",
        ),
        (
            "sim.expectation",
            "--method enumerate --seed 1",
            "--seed is 1, allowed only with --method montecarlo",
        ),
        ("sim.turning", "--sweeps beta1 --beta1 0.9", "--beta1 is 0.9, allowed only with --sweeps beta2"),
        (
            "sim.feature_noise_run",
            "--n-steps 5 --n-epochs 2",
            "--n-epochs is 2, allowed only with --n-steps 0",
        ),
        ("sim.feature_noise_studies", "--study table --n-steps 5 --n-epochs 2", "--n-epochs is 2"),
        (
            "sim.feature_noise_studies",
            "--study decay --weight-decay 1",
            "allowed only with --study betas or batch",
        ),
        (
            "sim.feature_noise_studies",
            "--study table --batch-size 4",
            "unrecognized arguments: --batch-size 4",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(fails, tmp_path, program, flags, words):
    path = tmp_path / "p.npz"
    np.savez(path, **vars(make_least_squares(16, 2, 0.02, 0)))
    out = tmp_path / "out"
    complaint = fails(main_of(program), *flags.replace("P", str(path)).split(), "--out", out)
    assert words in complaint, complaint
    assert not out.exists()


def test_both_lengths_have_a_meaning_in_the_study_of_steps():
    parser = parser_of("sim.feature_noise_studies")
    args = parser.parse_args(["--study", "steps", "--n-epochs", "3", "--n-steps", "200"])
    found = settings.from_flags(settings_of("sim.feature_noise_studies"), args)
    cases = STUDIES["steps"].cases(found.run)
    assert {case.total_steps for case in cases.values()} == {6, 200}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_sets_what_it_says_and_nothing_else_that_has_a_flag(study):
    """What a study changes is refused as a flag, or derived from it."""
    from sim.feature_noise.settings import Settings

    derived = {"steps": {"lr", "n_steps"}, "supports": {"patch_length", "n_noise", "noise_std"}}
    derived |= {"batch": {"n_samples"}, "decay": {"init_std"}}
    derived |= {name: {"lr", "n_steps"} for name in ("optimizers", "activations")}
    changed = set()
    for base in (
        Settings(),
        Settings(optimizer="adam", weight_decay=0.3, q=5, eps=1e-3, beta1=0.1, beta2=0.2),
    ):
        for case in STUDIES[study].cases(base).values():
            changed |= {n for n in settings.names(Settings) if getattr(case, n) != getattr(base, n)}
    assert changed - derived.get(study, set()) <= set(STUDIES[study].sets)
    assert set(STUDIES[study].sets) <= changed


# ------------------------------------------------------------------------------------------------------- recorded
def run(capsys, program, flags, form):
    main_of(program)([*flags.split(), "--format", form])
    text = capsys.readouterr().out
    return json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))


FILE = "--problem-file p.npz --batch-size 2"
SMALL = "--n-samples 6 --n-params 2 --batch-size 2"


@pytest.mark.parametrize(
    ("program", "flags", "empty"),
    [
        (
            "sim.expectation",
            f"{FILE} --method enumerate",
            f"noise problem_seed control_variate seed {NOT_ADAM} micro_batch_size",
        ),
        ("sim.expectation", f"{SMALL} --n-permutations 100", f"{NOT_ADAM} micro_batch_size"),
        ("sim.exact", FILE, f"noise problem_seed {NOT_ADAM} micro_batch_size"),
        ("sim.exact", f"{SMALL} --optimizer sgd-momentum", f"{NOT_SGD} micro_batch_size"),
        ("sim.terms", f"{FILE} --method enumerate", f"problem_seed seed {NOT_ADAM} micro_batch_size"),
        (
            "sim.terms",
            f"{SMALL} --optimizer sgd-momentum --n-permutations 100",
            f"{NOT_SGD} micro_batch_size",
        ),
        ("sim.terms", f"{SMALL} --study lines --rho 0.001", f"method seed {NOT_ADAM} micro_batch_size"),
        (
            "sim.terms",
            f"{SMALL} --study moments",
            f"n_epochs optimizer {OF_OPTIMIZERS} micro_batch_size method seed",
        ),
    ],
)
def test_only_what_was_used_is_recorded(capsys, tmp_path, monkeypatch, program, flags, empty):
    monkeypatch.chdir(tmp_path)
    np.savez("p.npz", **vars(make_least_squares(8, 2, 0.02, 0)))
    always = {"part", "places", "batches"}  # of terms, where they do not apply
    for row in run(capsys, program, flags, "csv"):
        assert {name for name, cell in row.items() if cell == ""} - always == set(empty.split())
    value = run(capsys, program, flags, "json")
    numbers = {"rho", "c_total_limit", "c_total_exact", "inside_range"} if "sgd" in flags else set()
    assert {name for name, cell in value.items() if cell is None} - numbers == set(empty.split())


def test_rows_of_sgd_record_no_setting_of_adam(capsys):
    small = (
        "--problem quadratics --beta1 0.5 --beta2 0.6 --eps-root 0.01 --lr-max 5e-4 --n-decades 1 --n-lr 3"
    )
    for row in run(capsys, "sim.closeness", f"{small} --horizon 0.02", "csv"):
        adam = row["optimizer"] == "adam"
        assert (row["beta2"], row["eps_root"]) == (("0.6", "0.01") if adam else ("", ""))


def test_a_length_in_steps_records_no_epochs(capsys):
    small = "--n-samples 8 --patch-length 17 --n-noise 2 --n-filters 2 --n-test 10 --n-steps 4"
    found = run(capsys, "sim.feature_noise_run", small, "json")["settings"]
    assert (found["n_steps"], found["n_epochs"]) == (4, None)


# -------------------------------------------------------------------------------------------------- configuration
def commands(name):
    """Command lines of the simulation rules of a configuration."""
    files = ["config/config.yaml"] + ([] if name == "config.yaml" else [f"config/{name}"])
    sim = config.load(*(str(ROOT / file) for file in files))["sim"]
    for program in ("expectation", "closeness", "turning", "invariance"):
        yield f"sim.{program}", config.flags(sim[program])
    for case in sim["terms"].values():
        yield "sim.terms", config.flags(case)
    studies = sim["feature_noise_studies"]
    for study, case in studies["studies"].items():
        yield "sim.feature_noise_studies", f"--study {study} {config.flags(studies['settings'] | case)}"


@pytest.mark.parametrize(
    "name", sorted(path.name for path in ROOT.glob("config/[!.]*.yaml") if "schema" not in path.name)
)
def test_no_configuration_contradicts_itself(name):
    found = list(commands(name))
    assert len(found) > 20
    for program, flags in found:
        settings.from_flags(settings_of(program), parser_of(program).parse_args(shlex.split(flags)))
