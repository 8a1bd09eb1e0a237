"""Texts to train on: word-level WikiText-2 and the Python language reference, as sequences of word numbers.

`wikitext-2` is the corpus of [1]_ as published (tokens split on blanks, <eos> at every line end, no lower-casing,
33,278 types). `pydoc` needs no download: the topics that `help()` knows, a part of every Python installation
(their text, and so the corpus and its sha256, differ a little from one Python version to the next).

References
----------
.. [1] S. Merity, C. Xiong, J. Bradbury, R. Socher, "Pointer sentinel mixture models", ICLR 2017.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from adam_minibatch_noise.errors import InputError
from train.runtime.downloads import check, fetch

SPLITS = ("train", "valid", "test")
EOS, UNKNOWN = "<eos>", "<unk>"

# The files as they stood in December 2017; the commit is part of the address, so they cannot change.
WIKITEXT2_URL = (
    "https://raw.githubusercontent.com/pytorch/examples/d5678bc8ac0cdd79dbd5e44d4130271018bcec4e/"
    "word_language_model/data/wikitext-2/{split}.txt"
)
WIKITEXT2_SHA256 = {
    "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}

PYDOC_SALT = "0"  # of the hash that orders the topics: it decides who is held out
PYDOC_HELD_OUT = 0.1  # share of the words in the validation split, and in the test split
PYDOC_MIN_COUNT = 2  # rarer words of the training split become <unk>
PYDOC_WORD = re.compile(r"\w+|([^\w\s])\1*")  # a word, or a run of one punctuation mark


@dataclass(frozen=True)
class Corpus:
    """A text in three splits that share no sentence source, as word numbers.

    Attributes
    ----------
    name : str
    vocabulary : tuple of str
        The word of each number.
    train, valid, test : ndarray of int64, shape (n_tokens,)
    sha256 : str
        Of the three splits and the vocabulary, joined.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    sha256: str


def load(name: str, data_dir: Path | None = None, cache_dir: Path | None = None) -> Corpus:
    """Read a corpus by its name.

    Parameters
    ----------
    name : str
        One of `LOADERS`.
    data_dir, cache_dir : path, optional
        See `wikitext2`; `pydoc` uses neither.

    Raises
    ------
    InputError
        Unknown name; a file that is missing, damaged or cannot be downloaded.
    """
    if name not in LOADERS:
        raise InputError(f"corpus is {name!r}, allowed: {', '.join(LOADERS)}")
    return LOADERS[name](data_dir, cache_dir)


def describe(corpus: Corpus) -> dict[str, str | int]:
    """Name, sizes and sha256 of a corpus, for the record of a run."""
    sizes = {f"n_{split}_tokens": len(getattr(corpus, split)) for split in SPLITS}
    return {"name": corpus.name, "n_types": len(corpus.vocabulary), **sizes, "sha256": corpus.sha256}


def windows(tokens: np.ndarray, tgt_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into the samples of training: window r holds tokens r tgt_len ... (r + 1) tgt_len - 1.

    Parameters
    ----------
    tokens : ndarray of int, shape (n_tokens,)
    tgt_len : int >= 1

    Returns
    -------
    inputs, targets : ndarray, shape (n_windows, tgt_len)
        Views; targets are the inputs moved on by one word. n_windows = floor((n_tokens - 1) / tgt_len),
        because the last word of a window needs a successor: 16,317 for WikiText-2 at 128.
    """
    n_windows = (len(tokens) - 1) // tgt_len
    n_used = n_windows * tgt_len
    return tokens[:n_used].reshape(-1, tgt_len), tokens[1 : n_used + 1].reshape(-1, tgt_len)


def wikitext2(
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    sha256: Mapping[str, str] = WIKITEXT2_SHA256,
    opener: Callable[[str], IO[bytes]] | None = None,
) -> Corpus:
    """Read word-level WikiText-2; every file is checked against its published sha256.

    Parameters
    ----------
    data_dir : path, optional
        A folder that holds wikitext-2/{train,valid,test}.txt. Without it they are taken from the cache, where
        they are downloaded to if need be.
    cache_dir : path, optional
        ~/.cache/adam-minibatch-noise unless given.
    sha256 : mapping from str to str
        Expected sha256 of each split's file.
    opener : callable, optional
        See `train.runtime.downloads.fetch`.

    Raises
    ------
    InputError
        A missing or damaged file, or a download that failed.
    """
    texts = {}
    for split in SPLITS:
        if data_dir is not None:
            path = Path(data_dir) / "wikitext-2" / f"{split}.txt"
            if not path.is_file():
                raise InputError(
                    f"{path}: no such file; --data-dir needs wikitext-2/{{train,valid,test}}.txt"
                )
        else:
            path = Path(cache_dir or "~/.cache/adam-minibatch-noise").expanduser() / f"wikitext-2/{split}.txt"
            if not path.is_file():
                fetch(WIKITEXT2_URL.format(split=split), path, sha256[split], opener)
        data = path.read_bytes()
        check(str(path), hashlib.sha256(data).hexdigest(), sha256[split])
        try:
            texts[split] = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not text in UTF-8 ({error})") from error
    words = {split: wikitext_words(text) for split, text in texts.items()}
    # Dai et al. and Merity et al. count types over the training split; it holds every word of the other two.
    if UNKNOWN not in words["train"]:
        raise InputError(f"{path.with_name('train.txt')}: holds no {UNKNOWN}, allowed: the text as published")
    return _number("wikitext-2", words, Counter(words["train"]))


def wikitext_words(text: str) -> list[str]:
    """Split on blanks; <eos> after each line."""
    # "\\n" alone ends a line: str.splitlines would also cut at the exotic separators inside the text.
    return [word for line in text.removesuffix("\n").split("\n") for word in [*line.split(), EOS]]


def pydoc(topics: Mapping[str, str]) -> Corpus:
    """Make a corpus of the topics of Python's `help()`.

    A word is a run of letters, digits and underscores, or a run of one punctuation mark (cut to three); every
    line that is not blank ends in <eos>. Whole topics are held out. Some topics quote others word for word
    ("compound" holds "if"), so a paragraph found in several topics is kept in the first one alone: the held-out
    text would otherwise be learned by heart.

    Parameters
    ----------
    topics : mapping from str to str
        Name and text; their order does not matter.
    """
    names = sorted(topics, key=lambda name: hashlib.sha256(f"{PYDOC_SALT}:{name}".encode()).hexdigest())
    words = dict(zip(names, map(pydoc_words, _without_repeats(topics[name] for name in names)), strict=True))
    quota = PYDOC_HELD_OUT * sum(map(len, words.values()))
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for text in words.values():
        # Into the first held-out split that has room for half of it; large topics thus go to training.
        room = (split for split in ("valid", "test") if len(splits[split]) + len(text) / 2 < quota)
        splits[next(room, "train")] += text
    counts = Counter(splits["train"])
    common = Counter({word: count for word, count in counts.items() if count >= PYDOC_MIN_COUNT})
    common[UNKNOWN] += sum(counts.values()) - sum(common.values())
    return _number("pydoc", splits, common)


def pydoc_words(text: str) -> list[str]:
    """Split into words and runs of punctuation; <eos> after each line that is not blank."""
    lines = (PYDOC_WORD.finditer(line) for line in text.split("\n") if line.strip())
    return [
        word
        for line in lines
        for word in [*(match.group()[:3] if match.group(1) else match.group() for match in line), EOS]
    ]


def _without_repeats(texts: Iterable[str]) -> Iterable[str]:
    seen: set[str] = set()
    for text in texts:
        paragraphs = {" ".join(block.split()): block for block in re.split(r"\n\s*\n", text)}
        yield "\n".join(block for key, block in paragraphs.items() if key not in seen)
        seen.update(paragraphs)


def _number(name: str, words: Mapping[str, Sequence[str]], counts: Counter[str]) -> Corpus:
    """Replace words by their rank in frequency (ties: alphabetical), words without a count by <unk>."""
    vocabulary = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    number = {word: i for i, word in enumerate(vocabulary)}
    unknown = number[UNKNOWN]
    splits = {
        split: np.fromiter((number.get(word, unknown) for word in words[split]), np.int64) for split in SPLITS
    }
    digest = hashlib.sha256("\n".join(vocabulary).encode())
    for split in SPLITS:
        digest.update(splits[split].astype("<i4").tobytes())
    return Corpus(name, vocabulary, sha256=digest.hexdigest(), **splits)


def _pydoc_of_this_python() -> Corpus:
    from pydoc_data.topics import topics

    return pydoc(topics)


LOADERS: dict[str, Callable[[Path | None, Path | None], Corpus]] = {
    "pydoc": lambda data_dir, cache_dir: _pydoc_of_this_python(),
    "wikitext-2": wikitext2,
}
"""How each of `common.names.CORPORA` is read, from `data_dir` and `cache_dir`."""
