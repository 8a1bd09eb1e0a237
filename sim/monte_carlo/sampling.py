"""Uniformly random permutations with one random stream each; all ordered partitions into batches.

Permutation number `index` of a seed depends on (`seed`, `index`) alone: not on how many others are drawn, in
which order, or by how many threads. Word i of its stream is a hash of (seed, index, i), so a whole row of
words is computed at once in vector registers, and a Fisher-Yates shuffle then uses them one by one.

References
----------
.. [1] Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators" (the mixing function).
.. [2] Lemire (2019), "Fast random integer generation in an interval" (bounded integers without bias).
"""

import itertools
import math

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError

MAX_PARTITIONS = 1_000_000
"""Most ordered partitions that `ordered_partitions` lists."""
MAX_SAMPLES = 2**31 - 1
"""Largest number of samples: the permutations are int32."""

# Every constant is a uint64: Numba turns uint64 with a signed integer into float64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW_WORD = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


@njit(cache=True)
def _mix(word):
    """Hash 64 bits to 64 bits, one to one (SplitMix64's output function, [1]_)."""
    word = (word ^ (word >> _30)) * _MIX_1
    word = (word ^ (word >> _27)) * _MIX_2
    return word ^ (word >> _31)


@njit(cache=True)
def _stream_key(seed, index):
    """Give each permutation of a seed a key of its own: distinct indices have distinct keys."""
    return _mix(_mix(seed + _GOLDEN) + _GOLDEN * (index + _ONE))


@njit(cache=True)
def _counter(i, attempt):
    """Hash of what is the same for every key."""
    return _mix(_GOLDEN * (i | (attempt << _32)))


@njit(cache=True)
def _scaled_word(key, i, counter):
    """Return x (i + 1) for 32 random bits x: the high half is in 0..i, a small low half rejects it."""
    word = _mix(key ^ counter)
    return (word >> _32) * (i + _ONE)


@njit(cache=True)
def _pick(key, i):
    """Draw a uniform integer of 0..i, rejecting the few words that would favour some of them [2]_."""
    unfair = (_LOW_WORD - i) % (i + _ONE)  # 2^32 mod (i + 1)
    attempt = np.uint64(0)
    scaled = _scaled_word(key, i, _counter(i, attempt))
    while (scaled & _LOW_WORD) < unfair:
        attempt += _ONE
        scaled = _scaled_word(key, i, _counter(i, attempt))
    return scaled >> _32


@njit(cache=True)
def _shuffle(order, picks, counters, key):
    """Fill `order` with a permutation of 0..n-1."""
    doubtful = False
    for step in range(order.size):
        i = np.uint64(step)
        scaled = _scaled_word(key, i, counters[step])
        picks[step] = scaled >> _32
        doubtful |= (scaled & _LOW_WORD) <= i
    if doubtful:  # low word < i + 1: perhaps unfair (about one permutation in 2^33 / n^2)
        for step in range(order.size):
            picks[step] = _pick(key, np.uint64(step))
    for place in range(order.size):  # Fisher-Yates, inside out
        other = picks[place]
        order[place] = order[other]
        order[other] = place


@njit(cache=True)
def make_counters(n_samples):
    """Hash the places of a permutation, (n_samples,) uint64: the part of `fill_permutation` that all share."""
    counters = np.empty(n_samples, np.uint64)
    for i in range(n_samples):
        counters[i] = _counter(np.uint64(i), np.uint64(0))
    return counters


@njit(cache=True)
def fill_permutation(order, picks, counters, seed, index):
    """Write permutation number `index` of a seed (both uint64) into `order`, (n,) integers.

    `picks` is (n,) uint32 working space, `counters` comes from `make_counters`.
    """
    _shuffle(order, picks, counters, _stream_key(seed, index))


@njit(cache=True, nogil=True)
def _draw(orders, seed, first_index):
    picks, counters = np.empty(orders.shape[1], np.uint32), make_counters(orders.shape[1])
    for i in range(orders.shape[0]):
        fill_permutation(orders[i], picks, counters, seed, first_index + np.uint64(i))


def draw_permutations(n_samples: int, n_permutations: int, seed: int, first_index: int = 0) -> np.ndarray:
    """Draw permutations number `first_index`, `first_index` + 1, ... of a seed.

    Parameters
    ----------
    n_samples : int
        Length of a permutation, 1 to `MAX_SAMPLES`.
    n_permutations : int
        How many, >= 0.
    seed : int
        0 to 2^63 - 1.
    first_index : int, optional
        0 to 2^63 - 1.

    Returns
    -------
    ndarray of int32, shape (n_permutations, n_samples)
        Each row uniformly distributed over the n_samples! permutations, and the rows independent.

    Raises
    ------
    InputError
        For a number outside its range.
    """
    for name, value, low, high in [
        ("n_samples", n_samples, 1, MAX_SAMPLES),
        ("n_permutations", n_permutations, 0, 2**63 - 1),
        ("seed", seed, 0, 2**63 - 1),
        ("first_index", first_index, 0, 2**63 - 1),
    ]:
        if not low <= value <= high:
            raise InputError(f"{name} is {value}, allowed: {low} to {high}")
    orders = np.empty((n_permutations, n_samples), np.int32)
    with np.errstate(over="ignore"):  # uint64 wraps around by design; NumPy would warn where Numba is off
        _draw(orders, np.uint64(seed), np.uint64(first_index))
    return orders


def draw_batches(n_samples: int, batch_size: int, n_steps: int, seed: int) -> np.ndarray:
    """Draw batches without replacement, reshuffled every epoch.

    Parameters
    ----------
    n_samples, batch_size, n_steps : int
        `batch_size` divides `n_samples`.
    seed : int
        >= 0.

    Returns
    -------
    (n_steps, batch_size) ndarray of int
        Samples ascend within a batch; fewer steps with the same seed give the first rows.
    """
    n_epochs = -(-n_steps * batch_size // n_samples)
    orders = draw_permutations(n_samples, n_epochs, seed)
    return np.sort(orders.reshape(-1, batch_size)[:n_steps], axis=1)


def n_ordered_partitions(n_samples: int, batch_size: int) -> int:
    """Count the ways to deal samples into a sequence of batches: N! / (b!)^m, exactly.

    Parameters
    ----------
    n_samples, batch_size : int
        Both >= 1; `batch_size` divides `n_samples`.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If `batch_size` does not divide `n_samples`.
    """
    if n_samples < 1 or batch_size < 1 or n_samples % batch_size:
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {n_samples}")
    return math.factorial(n_samples) // math.factorial(batch_size) ** (n_samples // batch_size)


def ordered_partitions(n_samples: int, batch_size: int) -> np.ndarray:
    """List every way to deal samples into a sequence of batches, each once.

    A uniformly random permutation cut into batches is uniform over this list, so a mean over the list is the
    exact expectation of whatever depends on the batches only.

    Parameters
    ----------
    n_samples, batch_size : int
        Both >= 1; `batch_size` divides `n_samples`.

    Returns
    -------
    ndarray of int32, shape (n_ordered_partitions(n_samples, batch_size), n_samples)
        In lexicographic order; the samples of a batch ascend.

    Raises
    ------
    InputError
        If `batch_size` does not divide `n_samples`, or there are more than `MAX_PARTITIONS`.
    """
    n_partitions = n_ordered_partitions(n_samples, batch_size)
    if n_partitions > MAX_PARTITIONS:
        count = n_partitions if n_partitions < 10**15 else f"10^{math.log10(n_partitions):.2f}"
        raise InputError(
            f"{n_samples} samples in batches of {batch_size} have {count} ordered partitions, "
            f"allowed: at most {MAX_PARTITIONS}"
        )
    dealt = np.empty((1, 0), np.int32)
    left = np.arange(n_samples, dtype=np.int32)[None]  # beside each row of `dealt`, the samples not dealt yet
    while left.shape[1]:
        chosen = np.array(list(itertools.combinations(range(left.shape[1]), batch_size)))
        others = np.array([np.setdiff1d(np.arange(left.shape[1]), row) for row in chosen], dtype=np.int64)
        batches = left[:, chosen]  # (n_rows, n_choices, batch_size)
        rows = np.repeat(dealt[:, None], len(chosen), axis=1)
        dealt = np.concatenate([rows, batches], axis=2).reshape(-1, dealt.shape[1] + batch_size)
        left = left[:, others].reshape(len(dealt), -1)
    return dealt
