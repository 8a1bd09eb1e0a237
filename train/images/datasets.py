"""Images to classify, in three splits that share no image: CIFAR-10, a JPEG copy of it, and handwritten digits.

`cifar10` is the data set of [1]_ as published (60,000 images of 32 x 32 in 10 classes). `cifar10-jpeg` is a copy of it
at JPEG quality 75, about 30 dB of the original: results on it are not results on CIFAR-10, and say so. `digits` needs
no download: 1,797 images of 8 x 8 that are part of scikit-learn [2]_.

References
----------
.. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
.. [2] E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
"""

import gzip
import hashlib
import importlib.util
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from adam_minibatch_noise.errors import InputError
from common.names import DATASETS
from train.runtime.downloads import check, fetch, sha256_of

SPLITS = ("train", "valid", "test")

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10_PIXELS = 3 * 32 * 32
CIFAR10_N_CLASSES = 10
CIFAR10_N_VALID = 5000  # of the 50,000 training images; the published test split stays as it is
CIFAR10_JPEG_SHA256 = "92d972d6ea519075e7e26f589afbd63f1cb6d0b3d29bebd8d80d967495d4ab5e"
JPEG_END = b"\xff\xd9"
DIGITS_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"  # of the table, unpacked
DIGITS_SIZES = {"train": 1024, "valid": 273, "test": 500}


@dataclass(frozen=True)
class Images:
    """Labelled images in three splits.

    Attributes
    ----------
    name : str
    train, valid, test : tuple of two ndarrays
        Images, uint8, shape (n_images, n_channels, height, width), and their labels, int64, shape (n_images,).
    n_classes : int
    sha256 : str
        Of images and labels of the three splits, joined: it changes with the split's seed.
    """

    name: str
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    n_classes: int
    sha256: str


def load(
    name: str, data_dir: Path | None = None, cache_dir: Path | None = None, split_seed: int = 0
) -> Images:
    """Read a data set by its name.

    Parameters
    ----------
    name : str
        One of `LOADERS`.
    data_dir : path, optional
        Folder that holds cifar-10-binary.tar.gz, or cifar10-jpeg.npz; `cifar10` is downloaded without it.
    cache_dir : path, optional
        Folder of downloads; ~/.cache/adam-minibatch-noise unless given.
    split_seed : int >= 0
        Decides which images are held out for validation (and, of the digits, for test).

    Raises
    ------
    InputError
        Unknown name; a file that is missing, damaged or cannot be downloaded.
    """
    if name not in LOADERS:
        raise InputError(f"dataset is {name!r}, allowed: {', '.join(LOADERS)}")
    read, n_valid = LOADERS[name]
    return _join(name, read(data_dir, cache_dir), n_valid, split_seed)


def describe(images: Images) -> dict[str, str | int]:
    """Name, title, sizes and sha256 of a data set, for the record of a study."""
    sizes = {f"n_{split}_images": len(getattr(images, split)[1]) for split in SPLITS}
    return {"name": images.name, "title": DATASETS[images.name], **sizes, "sha256": images.sha256}


def cifar10(
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    sha256: str = CIFAR10_SHA256,
    opener: Callable[[str], IO[bytes]] | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read CIFAR-10 from its binary archive, which is never unpacked: nothing but six known members is read.

    Parameters
    ----------
    data_dir, cache_dir : path, optional
        See `load`.
    sha256 : str
        Of the archive.
    opener : callable, optional
        See `train.runtime.downloads.fetch`.

    Returns
    -------
    dict
        "train" and "test": images and labels, as in `Images`.

    Raises
    ------
    InputError
    """
    archive = "cifar-10-binary.tar.gz"
    path = Path(data_dir or cache_dir or "~/.cache/adam-minibatch-noise").expanduser() / archive
    if not path.is_file():
        if data_dir is not None:
            raise InputError(f"{path}: no such file; --data-dir needs {archive}, without it it is downloaded")
        fetch(CIFAR10_URL, path, sha256, opener)
    check(str(path), sha256_of(path), sha256)
    members = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    try:
        with tarfile.open(path, "r:gz") as tar:
            data = {
                split: b"".join(_member(tar, f"cifar-10-batches-bin/{name}") for name in names)
                for split, names in members.items()
            }
        return {split: _records(data[split]) for split in members}
    except Exception as error:  # each part of the archive has a parser of its own, with errors of its own
        raise InputError(
            f"{path}: is not CIFAR-10's binary archive ({type(error).__name__}: {error})"
        ) from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def _records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Take apart CIFAR-10's records: a byte of label, then 1024 bytes of red, of green, of blue, row by row."""
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + CIFAR10_PIXELS)
    return records[:, 1:].reshape(-1, 3, 32, 32), _labels(records[:, 0])


def _labels(labels: np.ndarray) -> np.ndarray:
    if (
        labels.ndim != 1
        or labels.dtype.kind not in "iu"
        or not np.isin(labels, range(CIFAR10_N_CLASSES)).all()
    ):
        raise ValueError("labels are not whole numbers from 0 to 9, one an image")
    return labels.astype(np.int64)


def cifar10_jpeg(
    data_dir: Path | None, sha256: str = CIFAR10_JPEG_SHA256
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the JPEG copy of CIFAR-10: image i is the common header, its body, and the end marker.

    Parameters
    ----------
    data_dir : path
        Folder that holds cifar10-jpeg.npz.
    sha256 : str
        Of that file.

    Returns
    -------
    dict
        As `cifar10`.

    Raises
    ------
    InputError
    """
    if data_dir is None:
        raise InputError(
            "--dataset is 'cifar10-jpeg', allowed: with --data-dir, a folder that holds cifar10-jpeg.npz"
        )
    path = Path(data_dir) / "cifar10-jpeg.npz"
    if not path.is_file():
        raise InputError(f"{path}: no such file; --data-dir needs cifar10-jpeg.npz")
    check(str(path), sha256_of(path), sha256)
    try:
        return _jpeg_copy(path)
    except Exception as error:  # each part of the file has a parser of its own, with errors of its own
        raise InputError(f"{path}: is not the copy of CIFAR-10 ({type(error).__name__}: {error})") from error


def _jpeg_copy(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    from PIL import Image

    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        header, body = arrays["jpeg_header"].tobytes(), arrays["jpeg_body"].tobytes()
        lengths, labels, n_train = arrays["body_length"], _labels(arrays["label"]), int(arrays["n_train"])
    if lengths.shape != labels.shape or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError("body_length holds no length for each label")
    ends = np.cumsum(lengths, dtype=np.int64)
    if not len(ends) or ends[-1] != len(body) or (np.diff(ends) < 0).any():  # falls only where it overflows
        raise ValueError(f"body_length does not add up to the {len(body)} bytes of jpeg_body")
    if not 0 < n_train < len(labels):
        raise ValueError(f"n_train is {n_train}, not between 0 and {len(labels)} images")
    pixels = np.empty((len(labels), 32, 32, 3), np.uint8)
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        picture = Image.open(io.BytesIO(header + body[start:end] + JPEG_END), formats=["JPEG"])
        if (picture.size, picture.mode) != ((32, 32), "RGB"):  # NumPy would stretch a single pixel
            raise ValueError(f"image {i} is {picture.size} {picture.mode}, not (32, 32) RGB")
        pixels[i] = np.asarray(picture)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return {
        "train": (planes[:n_train], labels[:n_train]),
        "test": (planes[n_train:], labels[n_train:]),
    }


def digits(sha256: str = DIGITS_SHA256) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read scikit-learn's handwritten digits; intensities 0 ... 16.

    Parameters
    ----------
    sha256 : str
        Of the table, unpacked.

    Returns
    -------
    dict
        "train": all images and labels, as in `Images`.

    Raises
    ------
    InputError
        scikit-learn is not installed, or holds another table.
    """
    # The file and not sklearn.datasets.load_digits, which takes four seconds to import; a test holds them equal.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise InputError("--dataset is 'digits', allowed: where scikit-learn is installed")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = gzip.decompress(path.read_bytes())
    check(str(path), hashlib.sha256(table).hexdigest(), sha256)
    values = np.loadtxt(io.BytesIO(table), np.uint8, delimiter=",")
    return {"train": (values[:, :-1].reshape(-1, 1, 8, 8), values[:, -1].astype(np.int64))}


def _join(name: str, parts: dict[str, tuple[np.ndarray, np.ndarray]], n_valid: int, seed: int) -> Images:
    """Hold out validation images at random, and test images too where none are published."""
    images, labels = parts["train"]
    order = np.random.default_rng(seed).permutation(len(labels))
    n_test = 0 if "test" in parts else DIGITS_SIZES["test"]
    n_train = len(labels) - n_valid - n_test
    if n_train < 1:
        raise InputError(
            f"{name} holds {len(labels)} images to train on, allowed: more than {n_valid + n_test}"
        )
    chosen = {
        split: (images[i], labels[i])
        for split, i in zip(SPLITS, np.split(order, [n_train, n_train + n_valid]), strict=True)
    }
    splits = chosen | ({"test": parts["test"]} if "test" in parts else {})
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(np.ascontiguousarray(splits[split][0]).tobytes())
        digest.update(splits[split][1].astype("<i8").tobytes())
    return Images(name, n_classes=int(labels.max()) + 1, sha256=digest.hexdigest(), **splits)


Splits = dict[str, tuple[np.ndarray, np.ndarray]]
LOADERS: dict[str, tuple[Callable[[Path | None, Path | None], Splits], int]] = {
    "digits": (lambda data_dir, cache_dir: digits(), DIGITS_SIZES["valid"]),
    "cifar10": (cifar10, CIFAR10_N_VALID),
    "cifar10-jpeg": (lambda data_dir, cache_dir: cifar10_jpeg(data_dir), CIFAR10_N_VALID),
}
"""How each of `common.names.DATASETS` is read, from `data_dir` and `cache_dir`, and its number of validation images."""
