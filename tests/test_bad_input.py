"""Thousands of malformed inputs: each ends in exit status 2 and one line, without a traceback or a partial file."""

import copy
import hashlib
import io
import os
import pickle
import shutil
import socket
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.records import InputError, write_csv
from tests import malformed
from tests.malformed import attempt, flags_of, main_of, only_parse, parser_of, refuses
from tests.test_architecture import PROGRAMS

ROOT = Path(__file__).parent.parent


def many(n):
    """The same `n` inputs in every run, however slow the machine."""
    return settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """A folder of its own, a home of its own, and no network."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))

        def no_network(*_args, **_kwargs):
            raise OSError("no network in tests")

        patch.setattr(socket, "create_connection", no_network)
        shutil.copytree(ROOT / "config", folder / "config")
        yield


# ----------------------------------------------------------------------------------------- command lines
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


SIM = "--n-samples 4 --n-params 2 --batch-size 1"
CNN = (
    "--n-samples 8 --patch-length 17 --n-noise 2 --noise-std 0.5 --n-filters 2 --init-std 0.3 --lr 1e-3 --n-epochs 2"
    " --n-test 40 --n-records 4 --n-threads 1"
)
MODEL = (
    "--n-layer 1 --n-head 1 --d-model 8 --d-head 4 --d-inner 8 --tgt-len 8 --batch-size 8 --max-train-windows 32"
    " --n-epochs 1 --no-progress --out o.csv"
)
SMALL = {
    "sim.constants": "",
    "sim.exact": SIM,
    "sim.terms": f"{SIM} --n-permutations 4",
    "sim.turning": "--n-samples 64 --batch-sizes 8 --min-batch-size 32 --n-epochs 1 --grid 0.5 0.9 --noise-scales 10",
    "sim.invariance": "--kappas 2 --cases least-squares-quiet --n-lr 3 --n-decades 0.5 --lrs 1e-3 --n-epochs 1"
    " --n-seeds 1 --n-threads 1 --problems least-squares",
    "sim.generalization": CNN,
    "sim.generalization_studies": f"{CNN} --study table --n-seeds 1 --n-steps 2 --cases adam",
    "train.run": MODEL,
    "train.vision": "--width 2 --max-train-images 64 --n-epochs 1 --no-progress --out o.csv",
    "analysis.cost_plan": "",
    "analysis.certify": "--digits 3",
}
PATHS = ["", "/", ".", "config", "/proc/nowhere/y.csv", "x" * 300, "/proc/x.csv"]
UNSTARTED = {"--n-threads", "--n-permutations"}  # an honest large number of them would be done


def extremes(flag):
    """Words that a parser takes, at the ends of their ranges; paths where nothing can be read or written."""
    limits = malformed.interval(flag.type)
    if limits is None:
        return PATHS
    kind, low, high = limits
    ends = ["0", "1", "1000000000000"] if kind is int else ["0", "1e-320", "1e308"]
    return [word for word in ends if low <= kind(word) <= high]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # stopped inside a callback
@pytest.mark.slow
@pytest.mark.parametrize("program", SMALL)
def test_extremes_that_the_parser_takes_end_well(program):
    """One flag at a time; where nothing is wrong the program is stopped when it has started to work."""
    base, main, seen = SMALL[program].split(), main_of(program), {}
    assert attempt(main, base)[0] in (0, 1)
    for flag in flags_of(parser_of(program)):
        if malformed.takes_no_value(flag) or flag.choices or flag.option_strings[0] in UNSTARTED:
            continue
        for word in extremes(flag):
            before = set(os.listdir())
            status, err = attempt(main, [*base, flag.option_strings[0], word], cpu_seconds=0.1)
            assert status in (0, 1, 2, "stopped"), (flag.option_strings, word, status)
            seen[status] = seen.get(status, 0) + 1
            if status == 2:
                assert len(err.strip().splitlines()) == 1, (flag.option_strings, word, err)
                assert set(os.listdir()) == before, (flag.option_strings, word)
    assert seen[2] > 0 or program == "sim.constants"


# ------------------------------------------------------------------------------------- tables and JSON
def words_and(number):
    from analysis.tables import TEXT

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
@pytest.mark.parametrize("program", READERS)
def test_tables_are_read_or_refused(program, tmp_path, monkeypatch):
    """The columns that a program asks for are found by asking it; then cells and whole files are spoilt."""
    import matplotlib.pyplot as plt

    from analysis import tables

    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "config", "config")
    parser, main, columns, read = parser_of(program), main_of(program), {}, tables.read

    def asked(paths, names=()):
        for path in paths:
            known = columns.setdefault(str(path), [])
            known += [name for name in names if name not in known]
        return read(paths, names)

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
    from analysis.config import check

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


# ----------------------------------------------------------------------------------------- problem files
GOOD = {"features": np.ones((4, 2)), "targets": np.zeros(4), "theta": np.arange(2.0)}


class Bomb:
    """Leaves a file if it is unpickled."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def npz(arrays, **kwargs):
    file = io.BytesIO()
    np.savez(file, **arrays, **kwargs)
    return file.getvalue()


SPOILT = [
    *(np.ones(shape) for shape in [(), (0,), (3,), (4, 0), (0, 2), (4, 3), (5, 2), (4, 2, 1), (1, 1, 1, 1)]),
    *(np.full((4, 2), value) for value in (np.nan, np.inf, -np.inf)),
    *(np.ones((4, 2)).astype(kind) for kind in ("c16", "U3", "S3", "M8[s]", "m8[s]", "?", "V4")),
    np.ones((4, 2), dtype=[("a", "f8")]),
    np.array([Bomb(), 1], dtype=object),
    np.full((4, 2), 1e300),
]


@many(400)
@given(st.data())
def test_problem_file_is_never_unpickled_and_always_refused_in_one_line(data):
    way = data.draw(
        st.sampled_from(["array", "array", "missing", "cut", "flip", "bytes", "header", "member", "pickle"])
    )
    content = npz(GOOD)
    if way == "array":
        name, array = data.draw(st.sampled_from(list(GOOD))), data.draw(st.sampled_from(SPOILT))
        content = npz(GOOD | {name: array})
    elif way == "missing":
        content = npz(
            {name: GOOD[name] for name in data.draw(st.sets(st.sampled_from(list(GOOD)), max_size=2))}
        )
    elif way == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif way == "flip":
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    elif way == "bytes":
        content = data.draw(st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])) + data.draw(
            st.binary(max_size=60)
        )
    elif way == "pickle":
        content = pickle.dumps([Bomb()])
    else:
        shape = data.draw(
            st.sampled_from(
                ["(4, 2)", "(10**9,)", "(1000000000000, 1000000000000)", "(-1, 2)", "(4, 2", "9" * 70000]
            )
        )
        descr = data.draw(
            st.sampled_from(["'<f8'", "'|O'", "'<f1024'", "'x'", "[('a', '<f8')]", "__import__('os')"])
        )
        header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        size = len(header) if way == "header" else data.draw(st.integers(0, 65535))
        member = b"\x93NUMPY\x02\x00" + size.to_bytes(4, "little") + header + bytes(64)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in GOOD.items():
                plain = io.BytesIO()
                np.save(plain, array)
                archive.writestr(f"{name}.npy", member if name == "features" else plain.getvalue())
        content = file.getvalue()
    Path("p.npz").write_bytes(content)
    status, err = attempt(
        main_of("sim.exact"), ["--problem-file", "p.npz", "--batch-size", "1", "--format", "csv"]
    )
    assert not Path("unpickled").exists()
    assert status == 2 or way == "flip" or (way in ("array", "header", "member") and status == 0), (
        status,
        err,
    )
    assert len(err.strip().splitlines()) == (status == 2), err


# ------------------------------------------------------------------------- corpora, images, checkpoints
def sha256(data):
    return hashlib.sha256(data).hexdigest()


@many(150)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="a <unk>\n\r\x1c\u2028é", max_size=60).map(str.encode)
    ),
    st.booleans(),
)
def test_corpus_file_is_read_or_refused(data, right_sum):
    from train.language import corpora

    folder = Path("text/wikitext-2")
    folder.mkdir(parents=True, exist_ok=True)
    for split in corpora.SPLITS:
        (folder / f"{split}.txt").write_bytes(data)
    sums = dict.fromkeys(corpora.SPLITS, sha256(data) if right_sum else sha256(data + b"x"))
    try:
        corpus = corpora.wikitext2(Path("text"), sha256=sums)
    except InputError as error:
        complaint = str(error)
    else:
        complaint = None
    if complaint:
        assert "train.txt" in complaint
    else:
        assert right_sum
        assert len(corpus.train) == len(corpora.wikitext_words(data.decode()))


@many(150)
@given(st.data())
def test_images_that_are_no_images_are_refused(data):
    """Even with the right sum, as after a mistake in the published one."""
    from train.pictures import images

    file, way = io.BytesIO(), data.draw(st.sampled_from(["bytes", "member", "link", "short", "cut"]))
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            member, size = tarfile.TarInfo(f"cifar-10-batches-bin/{name}"), 3073
            if way == "member" and name == "data_batch_3.bin":
                continue
            if way == "link" and name == "data_batch_3.bin":
                member.type, member.linkname, size = tarfile.SYMTYPE, "/etc/passwd", 0
            if way == "short" and name == "data_batch_3.bin":
                size = data.draw(st.integers(1, 3072))
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    content = file.getvalue()
    if way == "bytes":
        content = data.draw(st.binary(max_size=100))
    if way == "cut":
        content = content[: data.draw(st.integers(0, len(content) // 2))]  # what follows may be padding
    Path("pictures").mkdir(exist_ok=True)
    Path("pictures/cifar-10-binary.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match="is not CIFAR-10's binary archive"):
        images.cifar10(Path("pictures"), sha256=sha256(content))
    with pytest.raises(InputError, match="sha256"):
        images.cifar10(Path("pictures"))


PAYLOADS = [
    b"",
    b"PK\x03\x04",
    pickle.dumps({"settings": {}}),
    pickle.dumps(Bomb()),
    *(b"\x80\x02}q\x00." + bytes([i]) for i in range(4)),
]


def torch_bytes(value):
    import torch

    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@many(250)
@given(st.data())
def test_checkpoint_and_snapshot_that_are_none_are_refused(data):
    import torch

    from train import checkpoints

    way = data.draw(st.sampled_from(["no header", "payload", "object", "flip", "cut"]))
    whole = torch_bytes(
        {"settings": {"corpus_sha256": ""}, "model": {}, "epoch": 0.0, "step": 0, "valid_perplexity": 1.0}
    )
    payload = whole
    if way == "payload":
        payload = data.draw(
            st.one_of(
                st.sampled_from(PAYLOADS),
                st.binary(max_size=80),
                st.integers(1, 300).map(lambda n: whole[:-n]),
            )
        )
    elif way == "object":
        settings_ = data.draw(
            st.sampled_from(
                [None, 3, [], {}, {"lr": 1}, {"corpus_sha256": 1, "lr": "x"}, {"corpus_sha256": "", "no": 1}]
            )
        )
        payload = torch_bytes(
            data.draw(
                st.sampled_from(
                    [
                        None,
                        1,
                        [],
                        "x",
                        {},
                        {"settings": settings_},
                        {
                            "settings": settings_,
                            "model": 3,
                            "epoch": "x",
                            "step": None,
                            "valid_perplexity": [],
                        },
                        Bomb(),
                        torch.ones(2),
                    ]
                )
            )
        )
    content = checkpoints._header(payload) + payload
    if way == "no header":
        content = data.draw(st.one_of(st.binary(max_size=200), st.just(whole), st.just(checkpoints.MAGIC)))
    elif way == "flip":
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + bytes([content[at] ^ 8]) + content[at + 1 :]
    elif way == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    path = Path("state.pt")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"state\.pt"):
        checkpoints.load(path, {"lr": 0.5}, torch.device("cpu"))
    status = attempt(main_of("train.noise_scale"), ["--snapshots", "state.pt", "--no-progress"])
    assert status[0] == 2, (way, status)
    assert len(status[1].strip().splitlines()) == 1, status
    assert not Path("unpickled").exists()
