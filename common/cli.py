"""How every program of the project reads its flags and ends: bad input is one line on standard error, status 2."""

import argparse
import difflib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write, end_with_workflow, to_csv, to_json
from common.settings import COUNT, add_flags


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each flag; the description and the examples keep their lines."""


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that reports an error in one line and never guesses an abbreviated flag.

    It knows the nearest flag to one that does not exist, and notes which flags were given: `given` of the namespace is
    the set of their names, by which `common.settings.from_flags` tells a contradiction from a default.

    Parameters
    ----------
    examples : sequence of str
        Whole command lines, shown at the end of ``--help``.
    **kwargs
        Of `argparse.ArgumentParser`.
    """

    def __init__(self, *, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _HelpFormatter)
        if examples:
            heading = "example:" if len(examples) == 1 else "examples:"
            kwargs["epilog"] = "\n".join([heading, *(f"  {line}" for line in examples)])
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and name the nearest flag where one does not exist."""
        known, others = self.parse_known_args(args, namespace)
        if others:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = next((word.split("=")[0] for word in others if word.startswith("--")), "")
            near = difflib.get_close_matches(name, flags, 1) if name else []
            hint = f" (nearest flag: {near[0]})" if near else ""
            self.error(f"unrecognized arguments: {' '.join(others)}{hint}")
        return known

    def parse_known_args(  # type: ignore[override]  # argparse's overloads are about namespaces of other types
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse a folder as the file of `--out` before any work is done (where one is meant: "FOLDER")."""
        known, others = super().parse_known_args(args, namespace)
        for action in self._actions:
            out = getattr(known, action.dest, None) if action.dest == "out" else None
            if out is not None and action.metavar != "FOLDER" and Path(out).is_dir():
                self.error(f"argument --out: {out} is a folder, allowed: the name of a file")
        words = sys.argv[1:] if args is None else args
        given = {str(word).split("=")[0] for word in words}
        known.given = frozenset(
            action.dest for action in self._actions if given.intersection(action.option_strings)
        )
        return known, others

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line and exit with status 2."""
        print(f"{self.prog}: error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


TOO_BIG = (
    "array is too big",
    "Maximum allowed",
    "t allocate memory",
    "size calculation overflow",
    "out of memory",
)
"""How NumPy says that an array has more bytes than can be counted, and PyTorch that memory is short."""


def run(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> NoReturn:
    """Run the `main` of a module and turn what it cannot use into one line and exit status 2.

    Parameters
    ----------
    main : callable
        Takes the argument list (None: that of the process) and returns the exit status (None: 0).
    argv : list of str, optional
        Passed on to `main`.

    Raises
    ------
    SystemExit
        Always: 0 or what `main` returned; 2 after `InputError`, a file that cannot be read or written, a result
        that overflows or divides by 0, or too little memory; 130 after an interrupt from the keyboard.
    """
    end_with_workflow()
    try:
        with warnings.catch_warnings():
            # NumPy warns and goes on with inf or nan, which would then be written down as results
            warnings.filterwarnings("error", ".* encountered in ", RuntimeWarning)
            status = main(argv) or 0
        sys.stdout.flush()
    except InputError as error:
        status = _complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        status = _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except RuntimeWarning as error:
        if " encountered in " not in str(error):
            raise
        status = _complain(f"{error}: a value is too large or too small for this study, or a gradient is 0")
    except (MemoryError, ValueError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in TOO_BIG):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        status = _complain(f"not enough memory ({reason}), allowed: smaller sizes")
    except KeyboardInterrupt:
        status = _complain("interrupted", 130)
    raise SystemExit(status)


def _complain(message: str, status: int = 2) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


def allow_only(args: argparse.Namespace, names: Iterable[str], holds: bool, where: str) -> None:
    """Refuse flags that were given though they have no meaning beside the others.

    For flags that are no settings; those of settings say it themselves (`only_with` of `common.settings.setting`).

    Parameters
    ----------
    args : argparse.Namespace
        Of `Parser`, which remembers which flags were given.
    names : iterable of str
        Of the flags, as in the namespace.
    holds : bool
        Whether they have a meaning.
    where : str
        In words where they have: "with --checkpoint".

    Raises
    ------
    InputError
        Naming the first of them that was given, and `where`.
    """
    for name in names:
        if name in args.given and not holds:
            value = getattr(args, name)
            said = "" if isinstance(value, bool) else f" is {value}"
            raise InputError(f"--{name.replace('_', '-')}{said}, allowed only {where}")


def make_parser(
    program: str,
    about: str,
    cls: type,
    examples: Sequence[str],
    *,
    lists: Sequence[str] = (),
    omit: Sequence[str] = (),
    threads: bool = False,
    files: Mapping[str, str] | None = None,
) -> Parser:
    """Make the parser of a program that writes one result (`write_result`).

    Parameters
    ----------
    program : str
        Such as "sim.exact".
    about : str
        Docstring of the program, of which ``--help`` shows the first paragraph.
    cls, lists, omit
        Its settings, as in `common.settings.add_flags`.
    examples : sequence of str
        Command lines.
    threads : bool
        Whether it takes ``--n-threads``.
    files : mapping of str to str, optional
        Flags of other files that it writes, and their help.
    """
    parser = Parser(prog=f"python -m {program}", description=about.split("\n\n")[0], examples=examples)
    add_flags(parser, cls, lists=lists, omit=omit)
    group = parser.add_argument_group("files and machine" if threads else "files")
    if threads:
        group.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    for name, text in (files or {}).items():
        group.add_argument(name, metavar="FILE", help=text)
    add_output_flags(group)
    return parser


def add_output_flags(parser: Any) -> None:
    """Add --format and --out, which `write_result` obeys, to a parser or to one of its groups."""
    formats = ["table", "json", "csv"]
    parser.add_argument("--format", choices=formats, default=formats[0], help="form of the output")
    parser.add_argument("--out", metavar="FILE", help="write there (by rename) instead of standard output")


def write_result(args: argparse.Namespace, rows: Iterable[Mapping[str, Any]], value: Any, table: str) -> None:
    """Write a result in the form that the flags of `add_output_flags` ask for.

    Parameters
    ----------
    args : argparse.Namespace
    rows : iterable of mappings
        For ``--format csv`` (see `to_csv`).
    value : object
        For ``--format json`` (see `to_json`).
    table : str
        For ``--format table``.
    """
    text = {"csv": lambda: to_csv(rows), "json": lambda: to_json(value) + "\n", "table": lambda: table + "\n"}
    if args.out is None:
        sys.stdout.write(text[args.format]())
    else:
        with atomic_write(args.out) as file:
            file.write(text[args.format]())
