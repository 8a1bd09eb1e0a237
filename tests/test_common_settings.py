"""Settings: flags, combinations, schema and columns from one dataclass."""

from dataclasses import MISSING, dataclass

import jsonschema
import pytest

from adam_minibatch_noise.errors import InputError
from common import settings
from common.cli import Parser
from common.settings import BETA, COUNT, NONNEGATIVE, POSITIVE, SEED, WHOLE, Number, setting


@dataclass(frozen=True)
class Settings:
    problem_file: str | None = setting(None, "a file", str)
    noise: float = setting(0.1, "spread", NONNEGATIVE, only_with={"problem_file": (None,)})
    batch_size: int = setting(4, "samples a step", COUNT, unit="samples", group="run")
    optimizer: str = setting("adam", "which", choices=("adam", "sgd"), group="run")
    beta2: float = setting(0.9, "decay", BETA, group="run", only_with={"optimizer": ("adam",)})
    shuffle: bool = setting(True, "draw an order", group="run")
    sizes: tuple[int, ...] = setting((1, 2), "some sizes", COUNT, group="run")
    derived: int = 7  # no setting: has no flag


def parse(*argv, **kwargs):
    parser = Parser(prog="x")
    settings.add_flags(parser, Settings, **kwargs)
    return parser.parse_args(list(argv))


@pytest.mark.parametrize("text", ["1", "1.0", "nan", "inf", "-0.1", "", "0,5", "1e400"])
def test_beta_rejects_what_is_outside(text):
    with pytest.raises(settings.argparse.ArgumentTypeError, match=r">= 0 and < 1"):
        BETA(text)


def test_count_takes_whole_numbers_only():
    assert COUNT("3") == 3
    for text in ("0", "1.5", "three", "-1"):
        with pytest.raises(settings.argparse.ArgumentTypeError, match=r"whole number >= 1"):
            COUNT(text)


def test_every_setting_has_a_flag_and_comes_back():
    assert settings.from_flags(Settings, parse()) == Settings()
    argv = ["--noise", "0.5", "--batch-size", "8", "--beta2", "0.5", "--no-shuffle", "--sizes", "3", "4", "5"]
    expected = Settings(noise=0.5, batch_size=8, beta2=0.5, shuffle=False, sizes=(3, 4, 5))
    assert settings.from_flags(Settings, parse(*argv)) == expected


def test_a_flag_without_meaning_beside_another_is_refused_even_at_its_default():
    argv = ["--problem-file", "p.npz", "--noise", "0.1"]
    with pytest.raises(
        InputError, match=r"^--noise is 0.1, allowed only without --problem-file \(--problem-file is p.npz\)$"
    ):
        settings.from_flags(Settings, parse(*argv))
    with pytest.raises(
        InputError, match=r"^--beta2 is 0.9, .* with --optimizer adam \(--optimizer is sgd\)$"
    ):
        settings.from_flags(Settings, parse("--optimizer", "sgd", "--beta2=0.9"))


def test_used_leaves_out_what_had_no_meaning():
    row = settings.used(settings.from_flags(Settings, parse("--optimizer", "sgd", "--problem-file", "p.npz")))
    assert row["beta2"] is None
    assert row["noise"] is None
    assert row["batch_size"] == 4
    assert list(row) == list(settings.names(Settings))
    assert "derived" not in row


def test_combinations_run_the_last_list_fastest_and_refuse_repetition():
    lists = ("batch_size", "beta2")
    arguments = parse("--batch-size", "1", "2", "--beta2", "0.5", "0.6", lists=lists)
    cells = settings.combinations(Settings, arguments, lists)
    assert [(cell.batch_size, cell.beta2) for cell in cells] == [(1, 0.5), (1, 0.6), (2, 0.5), (2, 0.6)]
    with pytest.raises(InputError, match=r"--beta2 is 0.5 0.5, allowed: each value once"):
        settings.combinations(Settings, parse("--beta2", "0.5", "0.5", lists=lists), lists)


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (BETA, [0, 0.5], [1, -0.1]),
        (POSITIVE, [1e-9], [0]),
        (SEED, [0, 2**63 - 1], [-1, 2**63]),
        (WHOLE, [0], [0.5]),
        (COUNT, [1], [0]),
        (Number(float, 0, 2, open_low=True), [2.0], [0.0, 2.1]),
    ],
)
def test_schema_of_a_number_allows_what_its_flag_allows(kind, inside, outside):
    validator = jsonschema.Draft202012Validator(kind.schema())
    for value in inside:
        assert validator.is_valid(value)
        assert kind(str(value)) == value
    for value in outside:
        assert not validator.is_valid(value)
        with pytest.raises(settings.argparse.ArgumentTypeError):
            kind(str(value))


def test_schema_holds_every_setting_and_no_other():
    section = settings.schema(Settings, lists=("beta2",), omit=("problem_file",), required=("noise",))
    validator = jsonschema.Draft202012Validator(section)
    assert validator.is_valid(
        {"noise": 0, "beta2": [0.5], "shuffle": False, "sizes": [1], "optimizer": "sgd"}
    )
    for wrong in (
        {},
        {"noise": -1},
        {"noise": 0, "beta2": 0.5},
        {"noise": 0, "optimizer": "x"},
        {"noise": 0, "z": 1},
    ):
        assert not validator.is_valid(wrong)
    assert not validator.is_valid({"noise": 0, "problem_file": "p"})


def test_help_names_the_unit_and_the_default(capsys):
    with pytest.raises(SystemExit, match=r"0"):
        parse("--help")
    assert "samples a step (samples) (default: 4)" in " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------------------- settings of a program beside those it shares
@dataclass(frozen=True, kw_only=True)
class Study(Settings):
    noise: float = settings.inherited(Settings, "noise", default=0.5)
    batch_size: int = settings.inherited(Settings, "batch_size", only_with={"cnn": (True,)})
    beta2: float = settings.inherited(
        Settings, "beta2", only_with=({"optimizer": ("adam",)}, {"sizes": (7,), "shuffle": (False,)})
    )
    cnn: bool = setting(False, "a network", only_with={"problem_file": (None,)})
    study: str = setting(MISSING, "which", choices=("a", "b"))


def parse_study(*argv):
    parser = Parser(prog="x")
    settings.add_flags(parser, Study)
    return settings.from_flags(Study, parser.parse_args(list(argv)))


def test_an_inherited_setting_keeps_its_place_kind_and_help_and_changes_what_it_says():
    assert settings.names(Study) == (*settings.names(Settings), "cnn", "study")
    study = parse_study("--study", "a")
    assert (study.noise, study.batch_size) == (0.5, 4)
    with pytest.raises(InputError, match=r"--noise is 0.1, allowed only without --problem-file"):
        parse_study("--study", "a", "--problem-file", "p", "--noise", "0.1")
    assert settings.schema(Study)["properties"]["noise"] == NONNEGATIVE.schema()


def test_a_setting_without_a_default_must_be_given(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_study()
    assert "required: --study" in capsys.readouterr().err


def test_conditions_on_switches_are_said_as_they_are_typed(capsys):
    with pytest.raises(InputError, match=r"^--batch-size is 4, allowed only with --cnn$"):
        parse_study("--study", "a", "--batch-size", "4")
    assert parse_study("--study", "a", "--batch-size", "8", "--cnn").batch_size == 8
    for flag in ("--cnn", "--no-cnn"):
        with pytest.raises(InputError, match=rf"^{flag}, allowed only without --problem-file \(.* is p\)$"):
            parse_study("--study", "a", flag, "--problem-file", "p")
    with pytest.raises(SystemExit, match="0"):
        parse_study("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "samples a step (samples); only with --cnn (default: 4)" in text
    assert "decay; only with --optimizer adam or with --sizes 7 and without --shuffle (default: 0.9)" in text


@pytest.mark.parametrize(
    ("flags", "used"),
    [
        ([], True),
        (["--optimizer", "sgd"], False),
        (["--optimizer", "sgd", "--no-shuffle"], False),
        (
            ["--optimizer", "sgd", "--no-shuffle", "--sizes", "1", "7"],
            True,
        ),  # one of several values is enough
        (["--optimizer", "sgd", "--sizes", "1", "7"], False),
    ],
)
def test_one_of_several_alternatives_must_hold(flags, used):
    argv = ["--study", "b", *flags]
    assert settings.used(parse_study(*argv))["beta2"] == (0.9 if used else None)
    if used:
        assert parse_study(*argv, "--beta2", "0.5").beta2 == 0.5
    else:
        with pytest.raises(InputError, match=r"--beta2 is 0.5, allowed only with --optimizer adam or with"):
            parse_study(*argv, "--beta2", "0.5")
