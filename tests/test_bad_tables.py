"""Malformed tables and configurations: each is read, or refused in one line and without a partial file."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adam_minibatch_noise.errors import InputError
from common.files import write_csv
from tests import malformed
from tests.malformed import attempt, flags_of, main_of, many, parser_of, refuses
from tests.test_architecture import PROGRAMS, ROOT

pytestmark = pytest.mark.usefixtures("elsewhere")


def words_and(number):
    from analysis.inputs.tables import TEXT

    words = set(TEXT.split())
    return lambda name, i: "w" if name in words else number(i)


CELLS = {
    "counts": lambda: words_and(lambda i: i + 1),
    "ones": lambda: words_and(lambda _: 1),
    "shares": lambda: words_and(lambda i: 0.5 + i / 10),
    "zeros": lambda: words_and(lambda _: 0),
    "below zero": lambda: words_and(lambda _: -3.5),
    "nan": lambda: words_and(lambda _: "nan"),
    "inf": lambda: words_and(lambda _: "inf"),
    "huge": lambda: words_and(lambda _: 1e300),
    "beyond int64": lambda: words_and(lambda _: 10**30),
    "words": lambda: lambda *_: "abc",
    "numbers": lambda: lambda *_: 1,
    "nothing": lambda: lambda *_: "",
}
RAW = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "header only": b"a,b\n",
    "nul": b"a,b\n\0,\0\n",
    "latin-1": "ä,ö\n1,2\n".encode("latin-1"),
    "utf-16": "a,b\n1,2\n".encode("utf-16"),
    "ragged": b"a,b\n1,2,3,4\n5\n",
    "open quote": b'a,"b\n1,2\n',
    "half JSON": b'{"a":',
    "JSON list": b"[1, 2]",
    "JSON null": b"null",
    "JSON object": b"{}",
    "deep JSON": b"[" * 100_000,
    "picture": b"\x89PNG\r\n\x1a\n",
    "blank lines": b"\n\n\n",
    "same name twice": b"a,a\n1,1\n",
}
OUTPUTS = ("--out", "--summary", "--numbers")


def inputs_of(parser):
    return [
        f for f in flags_of(parser) if f.metavar in ("CSV", "JSON") and f.option_strings[0] not in OUTPUTS
    ]


READERS = [p for p in PROGRAMS if p.startswith("analysis.") and inputs_of(parser_of(p))]


def test_readers_of_tables_are_found():
    assert len(READERS) >= 13


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",  # the one of many tables, which takes as long as all others, with the rest of the spoilt ones
    [pytest.param(p, marks=pytest.mark.faults) if p == "analysis.article_numbers" else p for p in READERS],
)
def test_tables_are_read_or_refused(program, tmp_path, monkeypatch):
    """The columns that a program asks for are found by asking it; then cells and whole files are spoilt."""
    import matplotlib.pyplot as plt

    from analysis.inputs import tables

    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "config", "config")
    parser, main, columns, read = parser_of(program), main_of(program), {}, tables.read

    def asked(paths, names=(), finite=()):
        for path in paths:
            known = columns.setdefault(str(path), [])
            known += [name for name in (*names, *finite) if name not in known]
        return read(paths, names, finite)

    monkeypatch.setattr(tables, "read", asked)
    argv = []
    for flag in flags_of(parser):
        name = flag.option_strings[0]
        if flag in inputs_of(parser):
            argv += [name, f"{name[2:]}.{flag.metavar.lower()}"]
        elif name in OUTPUTS:
            suffix = flag.metavar.lower() if flag.metavar in ("CSV", "JSON") else "svg"
            argv += [name, f"result{name}.{suffix}"]
        elif flag.required:
            argv += [name, malformed.plausible(flag)]
    files = [word for word in argv if word.endswith((".csv", ".json")) and not word.startswith("result")]

    def fill(cell):
        for file in files:
            if file.endswith(".json"):
                Path(file).write_text('{"a": 1}')
            else:
                names = columns.get(file) or ["a"]
                write_csv(file, [{name: cell(name, i) for name in names} for i in range(2)])

    def check(what):
        plt.close("all")
        before = set(os.listdir())
        status, err = attempt(main, argv)
        assert status in (0, 1, 2), (what, status)
        if status == 2:
            assert len(err.strip().splitlines()) == 1, (what, err)
            assert set(os.listdir()) == before, what
        for path in Path().glob("result*"):
            path.unlink()

    known = None
    while known != columns:
        known = copy.deepcopy(columns)
        fill(CELLS["counts"]())
        check("counts")
    for what, cell in CELLS.items():
        fill(cell())
        check(what)
    for file in files:
        for what, data in RAW.items():
            fill(CELLS["counts"]())
            Path(file).write_bytes(data)
            check((file, what))


# ----------------------------------------------------------------------------------------- configuration
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
WRONG = [
    None,
    "",
    "x",
    -1,
    0,
    1.5,
    True,
    [],
    {},
    float("nan"),
    float("inf"),
    10**400,
    ["x"],
    {"x": 1},
    [[]],
    "é",
]


def places(value, at=()):
    """Paths of every value inside nested mappings and lists."""
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*at, key))


@many(120)
@given(
    st.sampled_from([at for at in places(CONFIG) if at]),
    st.sampled_from(WRONG),
    st.sampled_from(["set", "add", "drop"]),
)
def test_configuration_with_one_fault_is_allowed_or_refused_in_one_line(at, value, way):
    from common.config import check

    config = copy.deepcopy(CONFIG)
    inside = config
    for key in at[:-1]:
        inside = inside[key]
    if way == "set" or isinstance(inside, list):
        inside[at[-1]] = value
    elif way == "add":
        inside["no such name"] = value
    else:
        del inside[at[-1]]
    try:
        check(config, "config/config.schema.yaml")
    except InputError as error:
        complaint = str(error)
    else:
        complaint = None
    if complaint:
        assert complaint.startswith("configuration, ")
    else:
        assert way != "add" or isinstance(inside, list) or open_to_names(at[:-1])


def open_to_names(at):
    """Whether a section maps names of the author's choice to settings."""
    return at[-1:] in {("cases",), ("curves",), ("run",), ("terms",)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "x",
        "a: [",
        "\t",
        "a: &a [*a]",
        "? {a: 1}\n: 2",
        "!!python/object:os.system x",
        "a: 1\na: {",
        "\0",
    ],
)
def test_configuration_file_that_is_not_one_is_refused(text):
    Path("wrong.yaml").write_text(text)
    refuses(main_of("analysis.cost_plan"), ["--config", "wrong.yaml"])
