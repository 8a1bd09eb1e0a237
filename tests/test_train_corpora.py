import hashlib
import http.client
import io
import os
import urllib.error
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from train.language import corpora

DATA_DIR = Path(os.environ.get("DATA_DIR") or "/nonexistent")
TEXTS = {
    "train": " \n = A <unk> title = \n \n the cat saw the dog . \n",
    "valid": " the cat \n",
    "test": " the dog \n\n",
}
SHA256 = {split: hashlib.sha256(text.encode()).hexdigest() for split, text in TEXTS.items()}


def write(folder, texts=TEXTS):
    for split, text in texts.items():
        path = folder / "wikitext-2" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


def decode(corpus, split):
    return [corpus.vocabulary[i] for i in getattr(corpus, split)]


def test_wikitext_splits_on_blanks_and_ends_each_line(tmp_path):
    corpus = corpora.wikitext2(write(tmp_path), sha256=SHA256)
    assert decode(corpus, "train") == (
        [
            "<eos>",
            "=",
            "A",
            "<unk>",
            "title",
            "=",
            "<eos>",
            "<eos>",
            "the",
            "cat",
            "saw",
            "the",
            "dog",
            ".",
            "<eos>",
        ]
    )
    assert decode(corpus, "valid") == ["the", "cat", "<eos>"]
    assert decode(corpus, "test") == ["the", "dog", "<eos>", "<eos>"]
    assert set(corpus.vocabulary) == set(decode(corpus, "train"))
    assert corpus.vocabulary[0] == "<eos>"  # most frequent first


@pytest.mark.skipif(
    not (DATA_DIR / "wikitext-2").is_dir(), reason="no WikiText-2: DATA_DIR names no folder that holds it"
)
def test_wikitext_has_the_published_counts():
    corpus = corpora.load("wikitext-2", DATA_DIR)
    assert len(corpus.vocabulary) == 33_278
    assert [len(corpus.train), len(corpus.valid), len(corpus.test)] == [2_088_628, 217_646, 245_569]
    assert corpora.windows(corpus.train, 128)[0].shape == (16_317, 128)
    # No word of the held-out splits is missing from the vocabulary: <unk> is as frequent as in the files.
    for split in ("valid", "test"):
        text = (DATA_DIR / "wikitext-2" / f"{split}.txt").read_text(encoding="utf-8")
        assert decode(corpus, split).count("<unk>") == text.split(" ").count("<unk>")


@pytest.mark.parametrize("damage", ["cut short", "one byte", "empty"])
@pytest.mark.parametrize("split", corpora.SPLITS)
def test_wikitext_rejects_a_damaged_file(tmp_path, split, damage):
    path = write(tmp_path) / "wikitext-2" / f"{split}.txt"
    data = path.read_bytes()
    path.write_bytes({"cut short": data[:-1], "one byte": b"!" + data[1:], "empty": b""}[damage])
    with pytest.raises(InputError, match=rf"{split}\.txt: its sha256 is \w+, allowed: {SHA256[split]}"):
        corpora.wikitext2(tmp_path, sha256=SHA256)


def test_wikitext_rejects_a_folder_without_the_files(tmp_path):
    with pytest.raises(InputError, match=r"train\.txt: no such file"):
        corpora.wikitext2(tmp_path, sha256=SHA256)


def served(texts, asked):
    def opener(url):
        asked.append(url)
        return io.BytesIO(texts[url.rsplit("/", 1)[1].removesuffix(".txt")].encode())

    return opener


def test_wikitext_downloads_once_into_the_cache(tmp_path):
    asked = []
    first = corpora.wikitext2(None, tmp_path, SHA256, served(TEXTS, asked))
    assert asked == [corpora.WIKITEXT2_URL.format(split=split) for split in corpora.SPLITS]
    assert all(url.startswith("https://") for url in asked)
    again = corpora.wikitext2(None, tmp_path, SHA256, served({}, asked))
    assert len(asked) == 3
    assert first.sha256 == again.sha256
    assert sorted(os.listdir(tmp_path / "wikitext-2")) == ["test.txt", "train.txt", "valid.txt"]


def test_wikitext_checks_the_cache_too(tmp_path):
    write(tmp_path, TEXTS | {"valid": "damaged"})
    with pytest.raises(InputError, match=r"valid\.txt: its sha256"):
        corpora.wikitext2(None, tmp_path, SHA256, served(TEXTS, []))


@pytest.mark.parametrize("text", [TEXTS["train"][:-3], TEXTS["train"] + "more", "<html>not found</html>"])
def test_wikitext_keeps_no_wrong_download(tmp_path, text):
    with pytest.raises(InputError, match=r"https://\S+train\.txt: its sha256"):
        corpora.wikitext2(None, tmp_path, SHA256, served(TEXTS | {"train": text}, []))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("https://x", 404, "Not Found", None, None),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b"half", 100),
    ],
)
def test_wikitext_without_network_says_so(tmp_path, error):
    def opener(url):
        raise error

    with pytest.raises(InputError, match=r"train\.txt: download failed .*by hand") as caught:
        corpora.wikitext2(None, tmp_path, SHA256, opener)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_published_address_names_a_commit():
    assert "/d5678bc8ac0cdd79dbd5e44d4130271018bcec4e/" in corpora.WIKITEXT2_URL


def test_pydoc_words():
    text = 'The "if" statement\n******************\n\n   >>> x.__init__(1.5)  # a\n   \n'
    first, second = 'The " if " statement <eos> *** <eos>', ">>> x . __init__ ( 1 . 5 ) # a <eos>"
    assert corpora.pydoc_words(text) == [*first.split(), *second.split()]


def test_pydoc_keeps_a_repeated_paragraph_once_and_topics_whole():
    shared = "this paragraph is in every topic"
    topics = {f"topic{i}": f"word{i} again{i} word{i} again{i}\n\n{shared}\n" for i in range(40)}
    corpus = corpora.pydoc(topics)
    words = {split: decode(corpus, split) for split in corpora.SPLITS}
    assert sum(map(len, words.values())) == 40 * 5 + 7
    # whole topics: multiples of 5, and of 7 for the one that holds the paragraph
    assert sorted(len(split) % 5 for split in words.values()) == [0, 0, 7 % 5]
    # held-out topics share no word of their own with training, so all of them are unknown
    assert set(words["valid"]) <= {"<unk>", "<eos>"}
    again = corpora.pydoc(dict(reversed(topics.items())))
    assert again.sha256 == corpus.sha256


def test_pydoc_rare_words_are_unknown():
    corpus = corpora.load("pydoc")
    counts = Counter(decode(corpus, "train"))
    assert min(count for word, count in counts.items() if word != "<unk>") == corpora.PYDOC_MIN_COUNT
    assert counts["<unk>"] > 100
    assert 2000 < len(corpus.vocabulary) < 4000
    assert set(corpus.vocabulary) == set(counts)


def test_pydoc_splits_are_a_tenth_and_share_no_paragraph():
    corpus = corpora.load("pydoc")
    n_tokens = sum(len(getattr(corpus, split)) for split in corpora.SPLITS)
    for split in ("valid", "test"):
        assert 0.08 < len(getattr(corpus, split)) / n_tokens < 0.12

    def grams(split, n=25):
        tokens = getattr(corpus, split)
        return {tokens[i : i + n].tobytes() for i in range(len(tokens) - n)}

    seen = grams("train")
    for split in ("valid", "test"):
        held_out = grams(split)
        assert len(held_out & seen) / len(held_out) < 0.01


def test_load_rejects_an_unknown_corpus():
    with pytest.raises(InputError, match="corpus is 'enwik8', allowed: pydoc, wikitext-2"):
        corpora.load("enwik8")


@pytest.mark.parametrize(("n_tokens", "n_windows"), [(13, 3), (12, 2), (5, 1), (4, 0), (1, 0)])
def test_windows_have_a_successor_for_every_word(n_tokens, n_windows):
    inputs, targets = corpora.windows(np.arange(n_tokens), 4)
    assert inputs.shape == targets.shape == (n_windows, 4)
    assert (targets == inputs + 1).all()
    assert inputs.ravel().tolist() == list(range(4 * n_windows))


def test_every_name_of_a_corpus_has_a_loader():
    from common import names

    assert list(corpora.LOADERS) == list(names.CORPORA)
