"""Malformed command lines and files, and a way to give them to a program in this process."""

import argparse
import contextlib
import importlib
import io
import os
import resource
import signal
import string
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from common import cli
from common.settings import Number

MEMORY = 1 << 30  # bytes that a run may ask for beside what the process has
NEVER_NUMBERS = [
    "",
    " ",
    "x",
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "-1e400",
    "1,5",
    "0x10",
    "1e",
    "٫",
    "½",
    "é",
]
UNICODE = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)


def many(n):
    """The same `n` inputs in every run, however slow the machine."""
    return settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Accepted(BaseException):
    """The parser took the command line."""


class Stopped(BaseException):
    """The program works on: nothing was wrong with its input."""


def main_of(program):
    return importlib.import_module(program).main


def parser_of(program):
    """Return the parser of a program, which nobody but its main needs to reach."""
    with _instead(lambda parser, argv=None: _raise(Accepted(parser))):
        try:
            main_of(program)([])
        except Accepted as accepted:
            return accepted.args[0]
    raise AssertionError(f"{program} reads no flags")


def only_parse(program):
    """Return a main that ends once the parser has taken the command line."""
    original = cli.Parser.parse_args

    def main(argv):
        with _instead(lambda parser, argv=None: _raise(Accepted(original(parser, argv)))):
            return main_of(program)(argv)

    return main


def _raise(error):
    raise error


@contextlib.contextmanager
def _instead(parse_args):
    own, cli.Parser.parse_args = cli.Parser.parse_args, parse_args
    try:
        yield
    finally:
        cli.Parser.parse_args = own


def attempt(main, argv, cpu_seconds=None, out=None):
    """Run a main through the door.

    Parameters
    ----------
    main : callable
    argv : list of str
    cpu_seconds : float, optional
        Stop it after so much; it may then ask for `MEMORY` only.
    out : io.StringIO, optional
        Gets what it prints.

    Returns
    -------
    status : int or str
        "accepted", "stopped" or the exit status.
    err : str
    """
    out, err = io.StringIO() if out is None else out, io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limits(cpu_seconds):
            cli.run(main, argv)
    except SystemExit as end:
        status = end.code
    except Accepted:
        status = "accepted"
    except Stopped:
        status = "stopped"
    if status == 2:
        assert out.getvalue() == "", out.getvalue()
    return status, err.getvalue()


@contextlib.contextmanager
def _limits(cpu_seconds):
    if cpu_seconds is None:
        yield
        return
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before, hook = resource.getrlimit(resource.RLIMIT_AS), sys.unraisablehook

    def unless_stopped(unraisable):
        if not issubclass(unraisable.exc_type, Stopped):
            hook(unraisable)

    def stop(_signal, frame):
        names = set()
        while frame is not None and frame.f_code is not cli.run.__code__:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        # neither before nor after the run; a `with` left half way would not be undone: gradients stay off, say
        if frame is not None and not names & {"__enter__", "__exit__", unless_stopped.__name__}:
            raise Stopped

    handler = signal.signal(signal.SIGPROF, stop)
    # Python swallows what is raised in a callback, such as a weak reference's or __del__, and reports it here; the
    # timer comes again
    sys.unraisablehook = unless_stopped
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        sys.unraisablehook = hook
        resource.setrlimit(resource.RLIMIT_AS, before)


def refuses(main, argv, cpu_seconds=None):
    """Check that a command line ends in exit status 2, one line of complaint, and no new file here."""
    before = set(os.listdir())
    status, err = attempt(main, argv, cpu_seconds)
    assert status == 2, (argv, status, err)
    assert len(err.strip().splitlines()) == 1, (argv, err)
    assert set(os.listdir()) == before, (argv, set(os.listdir()) - before)


# --------------------------------------------------------------------------------------- what a flag takes
def flags_of(parser):
    return [a for a in parser._actions if a.option_strings and not isinstance(a, argparse._HelpAction)]


def interval(kind):
    """Return type and ends of a `common.settings.Number`, or None for another type."""
    return (kind.kind, kind.low, kind.high) if isinstance(kind, Number) else None


def takes_no_value(action):
    return action.nargs == 0


def impossible(action):
    """Return words that a flag cannot take, whatever the others are; empty if it takes any text."""
    if takes_no_value(action):
        return []
    if action.choices is not None:
        first = str(next(iter(action.choices)))
        return ["", "x", first.upper() + "-", first + " ", "nan", "0"]
    limits = interval(action.type)
    if limits is None:
        return []
    kind, low, high = limits
    words = list(NEVER_NUMBERS)
    if kind is int:
        words += ["1.5", "1e3", "9" * 5000, "9" * 400, "-" + "9" * 400]
    if low > float("-inf"):
        words += [repr(kind(low) - 1), "-1e-3" if low == 0 else repr(kind(low) - 2), "-99999999999999999999"]
    if high < float("inf"):
        words += [repr(kind(high) + 1), "1e300", "9" * 40]
    return words


def plausible(action):
    """Return a word that a flag takes."""
    if action.choices is not None:
        return str(next(iter(action.choices)))
    limits = interval(action.type)
    if limits is None:
        return "missing.csv"
    kind, low, high = limits
    low = 0 if low == float("-inf") else low
    return repr(kind(low + 1 if high > low + 1 else low / 2 + min(high, low + 1) / 2))


def required(parser):
    """Return words for all that a parser demands."""
    words = []
    for action in flags_of(parser):
        if action.required:
            n = action.nargs if isinstance(action.nargs, int) else 1
            words += [action.option_strings[0], *[plausible(action)] * n]
    return words


@st.composite
def command_lines(draw, parser):
    """Draw words of which at least one spoils the command line."""
    flags = flags_of(parser)
    with_values = [action for action in flags if impossible(action)]
    ways = ["unknown", "surplus", "no value", "value for a switch", "abbreviated", "missing", "text"]
    way = draw(st.sampled_from([*ways, *["impossible"] * 12]))
    words, flag = required(parser), draw(st.sampled_from(flags))
    name = flag.option_strings[-1 if takes_no_value(flag) else 0]
    if way == "impossible" and with_values:
        flag = draw(st.sampled_from(with_values))
        word = draw(st.sampled_from(impossible(flag)))
        spoilt = [flag.option_strings[0], word]
        if word and not word.startswith("-") and draw(st.booleans()):
            spoilt = [f"{flag.option_strings[0]}={word}"]
    elif way == "missing" and words:
        taken = draw(st.sampled_from([a for a in flags if a.required]))
        start = words.index(taken.option_strings[0])
        n = taken.nargs if isinstance(taken.nargs, int) else 1
        return words[:start] + words[start + 1 + n :]
    elif way == "no value" and not takes_no_value(flag) and flag.nargs not in ("*", "?"):
        spoilt = [name]
    elif way == "value for a switch" and takes_no_value(flag):
        spoilt = [f"{name}={draw(st.sampled_from(['1', 'yes', '']))}"]
    elif way == "abbreviated" and len(name) > 4:
        spoilt = [name[: draw(st.integers(3, len(name) - 1))]]
        if any(spoilt[0] in action.option_strings for action in flags):
            spoilt = ["--no-such-flag"]
    elif way == "surplus":
        # a word in its place is no surplus; Hypothesis draws words that it finds in the sources, such as "remove"
        taken = {"--", *(word for a in parser._actions if not a.option_strings for word in a.choices or ())}
        spoilt = ["--", draw(UNICODE.filter(lambda text: text not in taken))]
    else:
        letters = st.text(alphabet=string.ascii_lowercase + "é€\n\t=", min_size=1, max_size=8)
        spoilt = ["--" + draw(st.sampled_from(["no-such-", "€", ""])) + "q" + draw(letters)]
    return [*words, *spoilt] if draw(st.booleans()) else [*spoilt, *words]
