"""Flags that are no settings are refused where they have no meaning, by every program that has such flags."""

import json

import pytest

from adam_minibatch_noise.errors import InputError
from common import cli
from tests.checkouts import ROOT
from tests.malformed import main_of, parser_of

WITH_FILES = "with data from wikitext-2, this is pydoc"
CASES = [
    ("train.run", "--data-dir D --out OUT.csv", f"--data-dir is D, allowed only {WITH_FILES}"),
    ("train.run", "--cache-dir D --out OUT.csv", f"--cache-dir is D, allowed only {WITH_FILES}"),
    (
        "train.run",
        "--corpus wikitext-2 --data-dir D --cache-dir E --out OUT.csv",
        "--cache-dir is E, allowed only without --data-dir",
    ),
    (
        "train.run",
        "--checkpoint-seconds 5 --out OUT.csv",
        "--checkpoint-seconds is 5.0, allowed only with --checkpoint",
    ),
    ("train.sweep", "--data-dir D --out OUT.csv", f"--data-dir is D, allowed only {WITH_FILES}"),
    ("train.sweep", "--cache-dir D --out OUT.csv", f"--cache-dir is D, allowed only {WITH_FILES}"),
    (
        "train.image_sweep",
        "--data-dir D --out OUT.csv",
        "--data-dir is D, allowed only with data from cifar10 or cifar10-jpeg, this is digits",
    ),
    (
        "train.image_sweep",
        "--dataset cifar10-jpeg --data-dir D --cache-dir E --out OUT.csv",
        "--cache-dir is E, allowed only with data from cifar10, this is cifar10-jpeg",
    ),
    (
        "train.image_sweep",
        "--checkpoint-seconds 0 --out OUT.csv",
        "--checkpoint-seconds is 0.0, allowed only with --checkpoint",
    ),
    (
        "analysis.cost_plan",
        "--speeds S.csv --tokens-per-second 1e5 --out OUT.csv",
        "--tokens-per-second is 100000.0, allowed only without --speeds",
    ),
    ("analysis.records_index", "--commands --write", "--commands, allowed only without --write"),
    ("analysis.records_index", "--readme OUT.csv", "--readme is OUT.csv, allowed only with --write"),
    (
        "analysis.plot_best_beta2",
        "--best B.csv --beta1 0.5 --out OUT.csv",
        "--beta1 is 0.5, allowed only with --noise-scale",
    ),
    ("common.results", "name --out OUT.csv", "--out is OUT.csv, allowed only with page"),
    ("common.results", "show --settings {}", "--settings is {}, allowed only with page"),
    (
        "common.results",
        "page --folder results-x --out OUT.csv",
        "--folder is results-x, allowed only without page",
    ),
    (
        "common.results",
        "remove --folder results-x --configuration C.yaml",
        "--configuration is C.yaml, allowed only without --folder",
    ),
]


@pytest.mark.parametrize(("program", "flags", "words"), CASES)
def test_a_flag_without_a_meaning_is_refused_in_one_line_before_any_work(
    program, flags, words, fails, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    complaint = fails(main_of(program), *flags.split())
    assert complaint.startswith(f"error: {words}"), complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--data-dir", "--cache-dir"])
def test_snapshots_of_a_text_without_files_take_no_folder(flag, fails, tmp_path):
    flags = "--n-layer 1 --d-model 8 --n-head 1 --d-head 4 --d-inner 8 --max-train-windows 16 --n-epochs 1"
    small = ["--no-progress", "--out", str(tmp_path / "run.csv"), "--snapshots", str(tmp_path / "s")]
    main_of("train.run")([*flags.split(), *small])
    snapshots = sorted(map(str, (tmp_path / "s").glob("*.pt")))
    out = tmp_path / "noise.csv"
    complaint = fails(main_of("train.noise_scale"), "--snapshots", *snapshots, flag, tmp_path, "--out", out)
    assert f"{flag} is {tmp_path}, allowed only {WITH_FILES}" in complaint
    assert not out.exists()


def test_a_speed_that_is_given_goes_before_one_that_is_found(tmp_path, monkeypatch, capsys):
    main, words = main_of("analysis.cost_plan"), ["--format", "json"]
    (tmp_path / "config").symlink_to(ROOT / "config")
    folder = tmp_path / "records" / "bench"
    folder.mkdir(parents=True)
    (folder / "training_batch_sizes.csv").write_text("batch_size,tokens_per_second\n64,2e5\n")
    monkeypatch.chdir(tmp_path)
    main(words)
    found = json.loads(capsys.readouterr().out)
    assert (found["tokens_per_second"], found["source_of_the_speed"]) == (
        2e5,
        "records/bench/training_batch_sizes.csv",
    )
    main([*words, "--tokens-per-second", "1e5"])
    given = json.loads(capsys.readouterr().out)
    assert (given["tokens_per_second"], given["source_of_the_speed"]) == (1e5, "--tokens-per-second")


def test_defaults_are_never_refused_and_the_first_given_flag_is_named():
    args = parser_of("analysis.records_index").parse_args(["--readme", "R.md"])
    cli.allow_only(args, ["commands", "folder"], False, "never")
    cli.allow_only(args, ["readme"], True, "never")
    with pytest.raises(InputError, match=r"--readme is R\.md, allowed only never"):
        cli.allow_only(args, ["commands", "readme"], False, "never")
