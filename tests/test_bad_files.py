"""Malformed problems, corpora, images and checkpoints: refused in one line, and nothing is ever unpickled."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adam_minibatch_noise.errors import InputError
from tests.malformed import attempt, main_of, many

pytestmark = pytest.mark.usefixtures("elsewhere")


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
    from train.images import datasets

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
        datasets.cifar10(Path("pictures"), sha256=sha256(content))
    with pytest.raises(InputError, match="sha256"):
        datasets.cifar10(Path("pictures"))


def one_line(read):
    """Whether it reads; if not, it refuses in a line."""
    complaint = "\n"
    try:
        read()
    except InputError as error:
        complaint = str(error)
    assert complaint == "\n" or len(complaint.splitlines()) == 1, complaint
    return complaint == "\n"


def binary_archive(labels, n_bytes=3072):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            data = b"".join(bytes([label]) + bytes(n_bytes) for label in labels)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(("labels", "reads"), [([0, 9], True), ([0, 10], False), ([255], False)])
def test_labels_of_images_are_those_of_ten_classes(labels, reads):
    from train.images import datasets

    content = binary_archive(labels)
    Path("pictures").mkdir(exist_ok=True)
    Path("pictures/cifar-10-binary.tar.gz").write_bytes(content)
    assert one_line(lambda: datasets.cifar10(Path("pictures"), sha256=sha256(content))) == reads


def test_archive_with_too_few_images_to_train_on_is_refused(monkeypatch):
    from train.images import datasets

    content = binary_archive([1])
    Path("pictures").mkdir(exist_ok=True)
    Path("pictures/cifar-10-binary.tar.gz").write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(datasets.cifar10, "__defaults__", (None, sha256(content), None))
        with pytest.raises(InputError, match="holds 5 images to train on, allowed: more than 5000"):
            datasets.load("cifar10", Path("pictures"))


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """The arrays of a copy of seven images."""
    from tests.test_train_datasets import jpeg_copy

    path = tmp_path_factory.mktemp("jpegs") / "cifar10-jpeg.npz"
    jpeg_copy(path, np.random.default_rng(0))
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays if name != "class_names"}


def jpeg_of(size, mode):
    """Header and body of an image as `jpeg_copy` cuts it: here all is header."""
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, size).save(file, "JPEG", quality=75)
    return np.frombuffer(file.getvalue()[:-2], np.uint8)


def other(array, way):
    """Spoil an array of a copy in one of `WAYS`."""
    flat = np.atleast_1d(array)
    return {
        "empty": array[:0] if array.ndim else np.zeros(0, array.dtype),
        "longer": np.concatenate([flat, flat]),
        "shorter": flat[:-1],
        "table": np.stack([flat, flat]),
        "negative": -flat.astype(np.int64) - 1,
        "shifted": flat.astype(np.int64) + np.eye(1, flat.size, dtype=np.int64)[0] * 2 - 1,
        "huge": np.full(flat.shape, 2**62),
        "words": np.full(flat.shape, "x"),
        "fractions": flat + 0.5,
        "nan": np.full(flat.shape, np.nan),
        "pickled": np.array([Bomb(), 1], dtype=object),
    }[way]


WAYS = [
    "empty",
    "longer",
    "shorter",
    "table",
    "negative",
    "shifted",
    "huge",
    "words",
    "fractions",
    "nan",
    "pickled",
]


def test_copy_of_images_is_read_or_refused(jpegs):
    """Whatever is spoilt but the pictures themselves is refused; a picture may come out another one."""

    @many(300)
    @given(st.data())
    def check(data):
        copy_is_read_or_refused(jpegs, data)

    check()


def copy_is_read_or_refused(jpegs, data):
    from train.images import datasets

    way = data.draw(st.sampled_from(["array"] * 4 + ["missing", "cut", "byte", "byte", "picture"]))
    arrays = dict(jpegs)
    if way == "array":
        name = data.draw(st.sampled_from(sorted(arrays)))
        arrays[name] = other(arrays[name], data.draw(st.sampled_from(WAYS)))
    elif way == "missing":
        del arrays[data.draw(st.sampled_from(sorted(arrays)))]
    elif way == "byte":
        name = data.draw(st.sampled_from(["jpeg_header", "jpeg_body", "jpeg_body"]))
        arrays[name] = arrays[name].copy()
        arrays[name][data.draw(st.integers(0, arrays[name].size - 1))] ^= data.draw(st.integers(1, 255))
    elif way == "picture":
        size, mode = data.draw(st.sampled_from([((1, 1), "RGB"), ((32, 31), "RGB"), ((32, 32), "L")]))
        arrays |= {"jpeg_header": jpeg_of(size, mode), "jpeg_body": np.zeros(0, np.uint8)}
        arrays["body_length"] = np.zeros_like(arrays["body_length"])
    content = npz(arrays)
    if way == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    Path("cifar10-jpeg.npz").write_bytes(content)
    found = []
    if one_line(lambda: found.append(datasets.cifar10_jpeg(Path(), sha256=sha256(content)))):
        assert way in ("byte", "array"), way
        for pixels, labels in found[0].values():
            assert (pixels.shape, pixels.dtype) == ((len(labels), 3, 32, 32), np.uint8)
            assert len(labels) > 0
            assert set(labels) <= set(range(10))
    assert not Path("unpickled").exists()


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

    from train.runtime import checkpoints

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
