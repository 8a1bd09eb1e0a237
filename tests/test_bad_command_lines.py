"""Malformed and extreme command lines of every program: each ends well, or in exit status 2 and one line."""

import io
import os
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adam_minibatch_noise.errors import InputError
from tests import malformed
from tests.malformed import attempt, flags_of, main_of, many, only_parse, parser_of, refuses
from tests.test_architecture import PROGRAMS
from tests.written_tables import MODEL, READERS

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_refuses_malformed_command_lines(program):
    parser, main = parser_of(program), only_parse(program)

    @many(150)
    @given(malformed.command_lines(parser))
    def check(argv):
        refuses(main, argv)

    check()


@pytest.mark.parametrize("program", PROGRAMS)
def test_any_text_for_any_flag_is_taken_or_refused(program):
    flags, main = flags_of(parser_of(program)), only_parse(program)
    words = malformed.required(parser_of(program))

    @many(60)
    @given(st.sampled_from(flags), malformed.UNICODE)
    def check(flag, text):
        name = flag.option_strings[0]
        status, err = attempt(main, [*words, name if malformed.takes_no_value(flag) else f"{name}={text}"])
        assert status in ("accepted", 2), err
        assert len(err.strip().splitlines()) == (status == 2), err

    check()


def works(cpu_seconds):
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        pass


class Forgotten:
    """Works in a callback in which Python swallows what is raised, then raises `error`, if any."""

    def __init__(self, error=None):
        self.error = error

    def __del__(self):
        works(0.1)
        if self.error:
            raise self.error


@pytest.mark.parametrize("n_callbacks", [1, 3])
def test_stop_that_a_callback_swallows_comes_again(n_callbacks):
    def main(argv):
        for _ in range(n_callbacks):
            Forgotten()
        works(10)

    hook = sys.unraisablehook
    assert attempt(main, [], 0.03) == ("stopped", "")
    assert sys.unraisablehook is hook


def test_stop_that_a_callback_swallows_leaves_the_line_of_complaint_alone():
    def main(argv):
        Forgotten()
        raise InputError("a complaint")

    status, err = attempt(main, [], 0.06)
    assert (status, err.strip().splitlines()) == (2, ["error: a complaint"])


def test_no_stop_while_another_error_of_a_callback_is_reported(monkeypatch):
    """Nor is that error lost."""
    reported = []

    def slow_hook(unraisable):
        works(0.1)
        reported.append(unraisable.exc_type)

    def main(argv):
        Forgotten(KeyError())
        works(10)

    monkeypatch.setattr(sys, "unraisablehook", slow_hook)
    assert attempt(main, [], 0.15) == ("stopped", "")
    assert reported == [KeyError]


@pytest.mark.parametrize("waits", ["__enter__", "__exit__"])
def test_no_stop_before_what_a_with_has_set_can_be_undone(waits):
    """As of `torch.no_grad`: else no later test of this process would have gradients."""
    changed = []

    class Changes:
        def __enter__(self):
            changed.append(True)
            works(0.1 * (waits == "__enter__"))

        def __exit__(self, *_):
            works(0.1 * (waits == "__exit__"))
            changed.clear()

    def main(argv):
        with Changes():
            pass
        works(10)

    assert attempt(main, [], 0.03) == ("stopped", "")
    assert changed == []


SIM = "--n-samples 4 --n-params 2 --batch-size 1"
CNN = (
    "--n-samples 8 --patch-length 17 --n-noise 2 --noise-std 0.5 --n-filters 2 --init-std 0.3 --lr 1e-3 --n-epochs 2"
    " --n-test 40 --n-records 4 --n-threads 1"
)
SMALL = {
    "sim.constants": "",
    "sim.exact": SIM,
    "sim.terms": f"{SIM} --n-permutations 100",
    "sim.turning": "--n-samples 64 --batch-sizes 8 --min-batch-size 32 --n-epochs 1 --grid 0.5 0.9 --noise-scales 10",
    "sim.invariance": "--kappas 2 --cases least-squares-quiet --n-lr 3 --n-decades 0.5 --lrs 1e-3 --n-epochs 1"
    " --n-seeds 1 --n-threads 1 --problems least-squares",
    "sim.feature_noise_run": CNN,
    "sim.feature_noise_studies": f"{CNN} --study table --n-seeds 1 --cases adam",
    "train.run": f"{MODEL} --out o.csv",
    "train.image_sweep": "--width 2 --max-train-images 64 --n-epochs 1 --no-progress --out o.csv",
    "sim.expectation": f"{SIM} --n-permutations 100",
    "sim.closeness": "--optimizer adam --beta1 0.5 --beta2 0.6 --eps-root 0.01 --lr-max 5e-4 --n-decades 1 --n-lr 3"
    " --horizon 0.002 --problem quadratics --n-threads 1",
    "train.sweep": f"{MODEL} --out s.csv",
    "train.noise_scale": "--snapshots snapshots/step-4.pt --small-size 2 --big-size 4 --n-draws 2 --no-progress",
    "analysis.plot_c_total": "--out f.svg",
    "analysis.plot_turning": "--map m.csv --turning t.csv --noise-scale 10 --n-epochs 1 --out f.svg",
    "analysis.plot_invariance": "--slopes i.csv --spread j.csv --out f.svg",
    "analysis.best_betas": "--tables s.csv --out b.csv",
    "analysis.plot_sweep": "--tables s.csv --out f.svg",
    "analysis.cost_plan": "",
    "analysis.certify": "--digits 3",
}
MADE_BY = {
    "train.noise_scale": ["train.run", "--snapshots", "snapshots"],
    "analysis.plot_turning": ["sim.turning", "--format", "csv", "--out", "m.csv", "--turning-out", "t.csv"],
    "analysis.plot_invariance": [
        "sim.invariance",
        "--format",
        "csv",
        "--out",
        "i.csv",
        "--spread-out",
        "j.csv",
    ],
    "analysis.best_betas": ["train.sweep"],
    "analysis.plot_sweep": ["train.sweep"],
}
"""What makes the files that a program of `SMALL` reads."""
# never a real folder outside that of the test: a program at fault may write there, or remove what it finds
PATHS = ["", ".", "config", "/proc/nowhere/y.csv", "x" * 300, "/proc/x.csv"]
NUMBERS = [
    "sim.constants",
    "sim.exact",
    "sim.terms",
    "sim.turning",
    "sim.invariance",
    "sim.expectation",
    "sim.closeness",
]
"""Programs whose results are finite numbers, or refused: a training may diverge, or be tested on nothing."""
UNSTARTED = {"--n-threads", "--n-permutations"}  # an honest large number of them would be done


def extremes(flag):
    """Words that a parser takes, at the ends of their ranges; paths where nothing can be read or written."""
    limits = malformed.interval(flag.type)
    if limits is None:
        return PATHS
    kind, low, high = limits
    ends = ["0", "1", "1000000000000"] if kind is int else ["0", "1e-320", "1e308"]
    return [word for word in ends if low <= kind(word) <= high]


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [pytest.param(name, marks=pytest.mark.faults) if name.startswith("train.") else name for name in SMALL],
)
def test_extremes_that_the_parser_takes_end_well(program):
    """One flag at a time; where nothing is wrong the program is stopped when it has started to work."""
    base, main, seen = SMALL[program].split(), main_of(program), {}
    if program in MADE_BY:
        maker, *flags = MADE_BY[program]
        assert attempt(main_of(maker), [*SMALL[maker].split(), *flags])[0] == 0
    assert attempt(main, base)[0] in (0, 1)
    every_flag_at_its_ends(program, base, 0.1, seen)
    assert seen[2] > 0 or program == "sim.constants"


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("reader", [reader for reader in READERS if reader.split()[0] not in SMALL])
def test_extremes_of_a_reader_of_tables_end_well(reader, tmp_path, monkeypatch):
    """The same with tables as the studies write them, and until the figure is there."""
    monkeypatch.chdir(tmp_path)
    program, base, seen = reader.split()[0], READERS[reader](), {}
    tables = set(os.listdir())
    assert attempt(main_of(program), base)[0] == 0
    every_flag_at_its_ends(program, base, 20, seen, tables)
    assert seen[2] > 0
    assert "stopped" not in seen


def every_flag_at_its_ends(program, base, cpu_seconds, seen, kept=None):
    """Run a program with one flag after the other at its extremes, and count how it ended.

    Before each run all files but those `kept`, if any are named, are removed: a new one may not hide behind an old one.
    """
    main = main_of(program)
    for flag in flags_of(parser_of(program)):
        if malformed.takes_no_value(flag) or flag.choices or flag.option_strings[0] in UNSTARTED:
            continue
        for word in extremes(flag):
            for name in set(os.listdir()) - (kept or set(os.listdir())):
                os.unlink(name)
            before, out = set(os.listdir()), io.StringIO()
            status, err = attempt(main, [*base, flag.option_strings[0], word], cpu_seconds, out)
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")  # those of runs that were stopped
            assert status in (0, 1, 2, "stopped"), (flag.option_strings, word, status)
            seen[status] = seen.get(status, 0) + 1
            if program in NUMBERS and status != "stopped":
                assert "nan" not in out.getvalue(), (flag.option_strings, word, out.getvalue())
            if status == 2:
                assert len(err.strip().splitlines()) == 1, (flag.option_strings, word, err)
                # a summary is written last: where it cannot be, the figure is there, and whole
                whole = {"f.svg"} if flag.option_strings[0] in ("--summary", "--numbers") else set()
                assert set(os.listdir()) - whole == before - whole, (flag.option_strings, word)
