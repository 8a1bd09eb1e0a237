"""The tasks: their samples for training, validation and test, and the first weights, all drawn from one seed.

Nothing is downloaded: handwritten digits come with scikit-learn, text with Python (`pydoc_data.topics`, which differs a
little between versions of Python; `text_digest` tells them apart).
"""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from sim.small_networks.cnn import first_weights, make_cnn, make_cnn_samples
from sim.small_networks.kernels import CNN, LINEAR, Data
from sim.small_networks.layers import EMBEDDED, FROZEN, NO_CLASS, ONE_HOT, Network, make_network
from sim.small_networks.settings import Settings
from sim.small_networks.simd import LANES, aligned_zeros

STREAMS = {"samples": 0, "labels": 1, "weights": 2, "order": 3}
"""Which part of a run a stream of random numbers is for."""
EMBEDDINGS = {"trained": EMBEDDED, "frozen": FROZEN, "one-hot": ONE_HOT}
BLOCK = 64
"""Windows of text that lie together; training, validation and test take turns of such stretches, drawn at random."""
N_HELD_OUT_DIGITS = 386, 387
N_WORDS = 500
"""Words of the vocabulary, the most frequent ones, besides the one that stands for all others."""
_NOTHING = np.zeros(0)
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Task:
    """What a run trains on.

    Attributes
    ----------
    network : Network
    weights : ndarray, shape (n_entries,)
        First weights.
    train, valid, test : Data
    n_train, n_valid, n_test : int
        Samples of each.
    """

    network: Network
    weights: np.ndarray
    train: Data
    valid: Data
    test: Data
    n_train: int
    n_valid: int
    n_test: int


def rng_of(settings: Settings, stream: str) -> np.random.Generator:
    """Return the random numbers of a run for one purpose."""
    return np.random.default_rng([settings.seed, STREAMS[stream]])


def make_task(settings: Settings, dtype=np.float32) -> Task:
    """Draw samples and first weights.

    Parameters
    ----------
    settings : Settings
    dtype : {float32, float64}, optional
        Of weights and inputs; the random numbers are the same.

    Raises
    ------
    InputError
        More samples than the data hold.
    """
    return _MAKERS[settings.task](settings, np.dtype(dtype))


def _data(dtype, features=_NOTHING, words=_NOTHING, targets=_NOTHING, values=_NOTHING) -> Data:
    return Data(
        _aligned(features, dtype),
        np.ascontiguousarray(words, np.int32).ravel(),
        np.ascontiguousarray(targets, np.int32),
        _aligned(values, dtype),
    )


def _aligned(array, dtype):
    flat = aligned_zeros(array.size, dtype)
    flat[:] = np.asarray(array).ravel()
    return flat


def make_weights(network: Network, rng: np.random.Generator, dtype) -> np.ndarray:
    """Draw the first weights of a network of one hidden layer.

    Normal numbers: words with variance 1, the hidden layer with 2/n_inputs (for one-hot words 2/n_context), the output
    layer with 1/n_hidden. Biases are 0.
    """
    weights = aligned_zeros(network.n_entries, dtype)
    if network.at_hidden:
        rows = weights[: network.at_hidden].reshape(network.n_words, LANES)
        rows[:, : network.n_embedding] = rng.normal(size=(network.n_words, network.n_embedding))
    hidden = weights[network.at_hidden : network.at_output].reshape(network.n_rows, network.n_hidden)
    fan_in = network.n_context if network.inputs == ONE_HOT else network.n_inputs
    hidden[: network.n_inputs] = rng.normal(size=(network.n_inputs, network.n_hidden)) * np.sqrt(2 / fan_in)
    output = rng.normal(size=(network.n_hidden, network.n_classes)) / np.sqrt(network.n_hidden)
    matrix = weights[network.at_output : network.at_bias].reshape(network.n_rows_out, network.n_columns_out)
    if network.n_columns_out == network.n_logits:
        matrix[: network.n_hidden, : network.n_classes] = output
        matrix[network.n_hidden, network.n_classes :] = NO_CLASS
    else:
        matrix[: network.n_classes] = output.T
        weights[network.at_bias + network.n_classes :] = NO_CLASS
    return weights


@functools.cache
def _digits():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _make_digits(settings: Settings, dtype) -> Task:
    pixels, labels = _digits()
    n_valid, n_test = N_HELD_OUT_DIGITS
    limit = labels.size - n_valid - n_test
    if settings.n_samples > limit:
        raise InputError(f"n_samples is {settings.n_samples}, allowed for digits: 1 to {limit}")
    order = rng_of(settings, "samples").permutation(labels.size)
    held_out, used = order[: n_valid + n_test], order[n_valid + n_test :][: settings.n_samples]
    given = labels[used].copy()
    rng = rng_of(settings, "labels")
    wrong = rng.random(limit)[: used.size] < settings.label_noise
    given = np.where(wrong, (given + rng.integers(1, 10, size=limit)[: used.size]) % 10, given)
    network = make_network(64, 32, 10)

    def split(rows, targets):
        return _data(dtype, features=pixels[rows] / 16, targets=targets)

    valid, test = held_out[:n_valid], held_out[n_valid:]
    return Task(
        network,
        make_weights(network, rng_of(settings, "weights"), dtype),
        split(used, given),
        split(valid, labels[valid]),
        split(test, labels[test]),
        used.size,
        n_valid,
        n_test,
    )


@functools.cache
def text() -> str:
    """Return the topics of Python's `help()`, a paragraph that several topics share in the first one alone."""
    from pydoc_data.topics import topics

    seen, parts = set(), []
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            key = " ".join(block.split())
            if key and key not in seen:
                seen.add(key)
                parts.append(block.strip("\n"))
    return "\n\n".join(parts) + "\n"


def text_digest() -> str:
    """Return the first 12 digits of the text's sha256."""
    return hashlib.sha256(text().encode()).hexdigest()[:12]


@functools.cache
def _characters() -> tuple[np.ndarray, int]:
    names = sorted(set(text()))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[c] for c in text()], np.int32), len(names)


@functools.cache
def _words() -> tuple[np.ndarray, int]:
    found = _WORD.findall(text().lower())
    counts = Counter(found)
    names = sorted(counts, key=lambda word: (-counts[word], word))[:N_WORDS]
    number = {name: i for i, name in enumerate(names)}
    return np.array([number.get(word, N_WORDS) for word in found], np.int32), N_WORDS + 1


def _windows(tokens, n_context, settings):
    """Draw stretches of text for training, validation and test; return contexts and the words that follow them."""
    length = BLOCK + n_context
    n_blocks, rest = divmod(settings.n_samples, BLOCK)
    limit = tokens.size // length // 3 * BLOCK
    if rest or settings.n_samples > limit:
        raise InputError(
            f"n_samples is {settings.n_samples}, allowed for {settings.task}: multiples of {BLOCK} to {limit}"
        )
    drawn = rng_of(settings, "samples").permutation(tokens.size // length)[: 3 * n_blocks]
    offsets = np.arange(BLOCK)[:, None] + np.arange(n_context + 1)
    for blocks in drawn.reshape(3, n_blocks):
        windows = tokens[blocks[:, None, None] * length + offsets].reshape(-1, n_context + 1)
        yield windows[:, :-1], windows[:, -1]


def _make_text(settings: Settings, dtype) -> Task:
    if settings.task == "characters":
        (tokens, n_words), n_context, n_embedding, n_hidden = _characters(), 8, 12, 64
    else:
        (tokens, n_words), n_context, n_embedding, n_hidden = _words(), 3, 16, 32
    inputs = EMBEDDINGS[settings.embedding]
    n_inputs = n_context * (n_words if inputs == ONE_HOT else n_embedding)
    network = make_network(n_inputs, n_hidden, n_words, inputs, n_words, n_context)
    train, valid, test = (
        _data(dtype, words=contexts, targets=following)
        for contexts, following in _windows(tokens, n_context, settings)
    )
    weights = make_weights(network, rng_of(settings, "weights"), dtype)
    return Task(network, weights, train, valid, test, *(split.targets.size for split in (train, valid, test)))


N_INPUTS_REGRESSION = 96
NOISE_REGRESSION = 0.5


def _make_regression(settings: Settings, dtype) -> Task:
    d, rng = N_INPUTS_REGRESSION, rng_of(settings, "samples")
    teacher = rng.normal(size=d) / np.sqrt(d)
    features = rng.normal(size=(settings.n_samples, d))
    values = features @ teacher + NOISE_REGRESSION * rng.normal(size=settings.n_samples)
    network = Network(LINEAR, 0, 0, 0, d, 0, 0, 1, 0, 0, 0, 0, 0, 0, d)
    truth = _data(dtype, features=teacher, values=np.array([NOISE_REGRESSION]))
    n = settings.n_samples
    return Task(
        network,
        aligned_zeros(d, dtype),
        _data(dtype, features=features, values=values),
        truth,
        truth,
        n,
        0,
        0,
    )


def _make_cnn(settings: Settings, dtype) -> Task:
    network = make_cnn(CNN)
    seed_of = {name: int(rng_of(settings, name).integers(2**31)) for name in ("samples", "weights")}
    splits = list(make_cnn_samples(settings.n_samples, seed_of["samples"]))
    wrong = rng_of(settings, "labels").random(settings.n_samples) < settings.label_noise
    splits[0] = splits[0][0], np.where(wrong, -splits[0][1], splits[0][1])
    train, valid, test = (_data(dtype, features=patches, values=labels) for patches, labels in splits)
    weights = _aligned(first_weights(seed_of["weights"]), dtype)
    return Task(network, weights, train, valid, test, *(labels.size for _, labels in splits))


_MAKERS: dict[str, Callable[[Settings, np.dtype], Task]] = {
    "digits": _make_digits,
    "characters": _make_text,
    "words": _make_text,
    "regression": _make_regression,
    "cnn": _make_cnn,
}
