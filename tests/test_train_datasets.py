"""Data sets are read as published, checked to the byte, and split so that no image is in two splits."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from common import names
from train.images import datasets
from train.runtime import downloads


def archive(rng, extra=()):
    """A small CIFAR-10 archive: five times 3 and once 4 records; returns its bytes, labels and pixels."""
    labels = rng.integers(10, size=19).astype(np.uint8)
    pixels = rng.integers(256, size=(19, 3, 32, 32)).astype(np.uint8)
    records = np.concatenate([labels[:, None], pixels.reshape(19, -1)], axis=1)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, part in [*zip(names, np.split(records, [3, 6, 9, 12, 15]), strict=True), *extra]:
            data = part.tobytes() if isinstance(part, np.ndarray) else part
            member = tarfile.TarInfo(name if name.startswith("..") else f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue(), labels, pixels


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_cifar10_reads_label_then_red_green_blue_planes(tmp_path, rng):
    data, labels, pixels = archive(rng)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(data)
    parts = datasets.cifar10(tmp_path, sha256=sha256(data))
    for split, where in (("train", slice(0, 15)), ("test", slice(15, 19))):
        np.testing.assert_array_equal(parts[split][0], pixels[where])
        np.testing.assert_array_equal(parts[split][1], labels[where])


def test_cifar10_unpacks_nothing(tmp_path, rng):
    data, *_ = archive(rng, extra=[("../evil.txt", b"out of the folder"), ("readme.html", b"in it")])
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz").write_bytes(data)
    datasets.cifar10(folder, sha256=sha256(data))
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "cifar-10-binary.tar.gz"]


def test_cifar10_is_downloaded_once_and_checked_each_time(tmp_path, rng):
    data, labels, _ = archive(rng)
    asked = []

    def opener(url):
        asked.append(url)
        return io.BytesIO(data)

    for _ in range(2):
        parts = datasets.cifar10(cache_dir=tmp_path / "cache", sha256=sha256(data), opener=opener)
        np.testing.assert_array_equal(parts["train"][1], labels[:15])
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    kept = tmp_path / "cache" / "cifar-10-binary.tar.gz"
    kept.write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"tar\.gz: its sha256 is .* damaged or cut short"):
        datasets.cifar10(cache_dir=tmp_path / "cache", sha256=sha256(data), opener=opener)


@pytest.mark.parametrize("fault", ["changed", "cut short", "unreachable", "broken off"])
def test_failed_download_leaves_nothing(tmp_path, rng, fault):
    data, *_ = archive(rng)

    class BrokenOff(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 100:
                raise ConnectionResetError("reset by peer")
            return super().read(101)

    def opener(url):
        if fault == "unreachable":
            raise OSError("Network is unreachable")
        if fault == "broken off":
            return BrokenOff(data)
        return io.BytesIO(data[:-1] if fault == "cut short" else data[:-1] + b"x")

    message = "sha256 is" if fault in ("changed", "cut short") else "download failed"
    with pytest.raises(InputError, match=message):
        datasets.cifar10(cache_dir=tmp_path, sha256=sha256(data), opener=opener)
    assert list(tmp_path.iterdir()) == []


def test_fetch_asks_for_blocks_and_keeps_the_bytes(tmp_path, monkeypatch):
    data = bytes(range(256)) * 40
    monkeypatch.setattr(downloads, "BLOCK", 999)
    downloads.fetch("https://x.test/f", tmp_path / "folder" / "f", sha256(data), lambda url: io.BytesIO(data))
    assert (tmp_path / "folder" / "f").read_bytes() == data
    assert downloads.sha256_of(tmp_path / "folder" / "f") == sha256(data)


def jpeg_copy(path, rng, n_images=7):
    """Write a file like cifar10-jpeg.npz; return what each JPEG decodes to by itself, and the labels."""
    from PIL import Image

    files = []
    for _ in range(n_images):
        smooth = np.kron(rng.integers(256, size=(4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(smooth).save(buffer, "JPEG", quality=75)
        files.append(buffer.getvalue())
    start = files[0].index(b"\xff\xda")  # what comes before is the same for all images
    assert len({file[:start] for file in files}) == 1
    bodies = [file[start:-2] for file in files]
    labels = rng.integers(10, size=n_images).astype(np.uint8)
    np.savez(
        path,
        jpeg_header=np.frombuffer(files[0][:start], np.uint8),
        jpeg_body=np.frombuffer(b"".join(bodies), np.uint8),
        body_length=np.array(list(map(len, bodies)), np.uint16),
        label=labels,
        n_train=np.int32(5),
        class_names=np.array(["a", "b"]),
    )
    pixels = np.array([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    return pixels.transpose(0, 3, 1, 2), labels


def test_cifar10_jpeg_matches_each_image_decoded_alone(tmp_path, rng):
    path = tmp_path / "cifar10-jpeg.npz"
    pixels, labels = jpeg_copy(path, rng)
    parts = datasets.cifar10_jpeg(tmp_path, sha256(path.read_bytes()))
    np.testing.assert_array_equal(np.concatenate([parts["train"][0], parts["test"][0]]), pixels)
    np.testing.assert_array_equal(np.concatenate([parts["train"][1], parts["test"][1]]), labels)
    assert len(parts["train"][1]) == 5


def test_cifar10_jpeg_rejects_a_file_that_is_not_the_copy(tmp_path, rng):
    jpeg_copy(tmp_path / "cifar10-jpeg.npz", rng)
    with pytest.raises(InputError, match=r"cifar10-jpeg\.npz: its sha256 is"):
        datasets.load("cifar10-jpeg", tmp_path)
    with pytest.raises(InputError, match=r"--data-dir needs cifar10-jpeg\.npz"):
        datasets.load("cifar10-jpeg", tmp_path / "none")
    with pytest.raises(InputError, match="allowed: with --data-dir"):
        datasets.load("cifar10-jpeg")


def test_digits_match_scikit_learn():
    from sklearn.datasets import load_digits

    ours, theirs = datasets.digits()["train"], load_digits()
    np.testing.assert_array_equal(ours[0][:, 0], theirs.images)
    np.testing.assert_array_equal(ours[1], theirs.target)


def test_digits_reject_another_table():
    with pytest.raises(InputError, match=r"digits\.csv\.gz: its sha256 is"):
        datasets.digits(sha256="0" * 64)


def test_digits_name_scikit_learn_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="allowed: where scikit-learn is installed"):
        datasets.load("digits")


def rows(split):
    return [*map(bytes, np.column_stack([split[0].reshape(len(split[1]), -1), split[1]]).astype(np.uint8))]


def test_splits_hold_every_digit_once_and_depend_on_the_seed_alone():
    first, again, other = (datasets.load("digits", split_seed=seed) for seed in (0, 0, 1))
    assert [len(getattr(first, split)[1]) for split in datasets.SPLITS] == [1024, 273, 500]
    together = [row for split in datasets.SPLITS for row in rows(getattr(first, split))]
    assert sorted(together) == sorted(rows(datasets.digits()["train"]))
    assert first.sha256 == again.sha256 != other.sha256
    assert rows(first.valid) != rows(other.valid)
    assert datasets.describe(first)["title"] == "handwritten digits"


def test_published_test_split_stays_as_it_is(monkeypatch, rng):
    pixels = np.arange(30, dtype=np.uint8).repeat(3 * 32 * 32).reshape(30, 3, 32, 32)
    labels = rng.integers(10, size=30)
    published = {"train": (pixels[:20], labels[:20]), "test": (pixels[20:], labels[20:])}
    monkeypatch.setitem(datasets.LOADERS, "cifar10", (lambda data_dir, cache_dir: published, 6))
    loaded = datasets.load("cifar10", split_seed=3)
    np.testing.assert_array_equal(loaded.test[0], pixels[20:])
    held = [sorted(split[0][:, 0, 0, 0].tolist()) for split in (loaded.train, loaded.valid)]
    assert sorted(held[0] + held[1]) == list(range(20))
    assert len(held[1]) == 6
    for split in (loaded.train, loaded.valid):
        np.testing.assert_array_equal(split[1], labels[split[0][:, 0, 0, 0]])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet", "dataset is 'imagenet', allowed: digits, cifar10, cifar10-jpeg"),
        ("cifar10", r"cifar-10-binary\.tar\.gz: no such"),
    ],
)
def test_load_rejects(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        datasets.load(name, tmp_path)


def test_every_name_of_a_data_set_has_a_loader():
    assert list(datasets.LOADERS) == list(names.DATASETS)
