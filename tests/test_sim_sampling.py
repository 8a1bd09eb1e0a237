import itertools
import math

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim.monte_carlo import sampling
from tests import naive


def chi_square_z(counts):
    """Standard score of the chi-square statistic of equally likely cells (its law is nearly normal here)."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return (((counts - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom)


def ranks_of(orders):
    """Number each permutation of 0..n-1 in lexicographic order."""
    n = orders.shape[1]
    rank_of = {order: rank for rank, order in enumerate(itertools.permutations(range(n)))}
    return np.array([rank_of[tuple(order)] for order in orders.tolist()])


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("n_samples", [1, 2, 7, 64])
def test_draw_permutations_matches_naive(n_samples, seed):
    orders = sampling.draw_permutations(n_samples, 5, seed, first_index=3)
    np.testing.assert_array_equal(orders, [naive.permutation(n_samples, seed, i) for i in range(3, 8)])


def test_pick_matches_naive_where_words_are_rejected():
    # At 2^31 + 2 values nearly half of the 32-bit words are rejected.
    with np.errstate(over="ignore"):
        place = np.uint64(2**31 + 1)
        picks = [int(sampling._pick(np.uint64(key), place)) for key in range(200)]
        scaled = [
            int(
                sampling._scaled_word(
                    np.uint64(key), place, np.uint64(sampling._counter(place, np.uint64(0)))
                )
            )
            for key in range(200)
        ]
    n_first = sum(pick == word >> 32 for pick, word in zip(picks, scaled, strict=True))
    assert 70 < n_first < 130  # the rest took a later word
    assert max(picks) <= 2**31 + 1
    assert abs(np.mean(picks) / 2**30 - 1) < 4 / math.sqrt(3 * len(picks))


def test_draw_permutations_matches_naive_where_a_word_is_rejected():
    # Rare: one of the first 10,000 permutations of 1000. Found by search; the second assertion says it is one.
    arguments = {"n_samples": 1000, "n_permutations": 1, "seed": 1, "first_index": 9587}
    expected = naive.permutation(1000, 1, 9587)
    np.testing.assert_array_equal(sampling.draw_permutations(**arguments)[0], expected)
    with np.errstate(over="ignore"):
        key = np.uint64(sampling._stream_key(np.uint64(1), np.uint64(9587)))  # Numba returns an int
        place = np.uint64(836)
        scaled = int(sampling._scaled_word(key, place, np.uint64(sampling._counter(place, np.uint64(0)))))
    assert scaled % 2**32 < 2**32 % 837


def test_draw_permutations_does_not_depend_on_chunks():
    whole = sampling.draw_permutations(30, 20, seed=5)
    parts = [sampling.draw_permutations(30, size, 5, first) for first, size in [(0, 7), (7, 12), (19, 1)]]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("n_samples", [4, 5])
def test_draw_permutations_is_uniform(n_samples, seed):
    orders = sampling.draw_permutations(n_samples, 24_000, seed)
    counts = np.bincount(ranks_of(orders), minlength=math.factorial(n_samples))
    assert abs(chi_square_z(counts)) < 4


@pytest.mark.parametrize("pair", ["neighbouring indices", "neighbouring seeds"])
def test_streams_are_independent(pair):
    first, second = (0, 0), {"neighbouring indices": (0, 1), "neighbouring seeds": (1, 0)}[pair]
    ranks = [
        ranks_of(sampling.draw_permutations(4, 60_001, seed=7 + seed))[skip : 60_000 + skip]
        for seed, skip in (first, second)
    ]
    counts = np.bincount(ranks[0] * 24 + ranks[1], minlength=24**2)
    assert abs(chi_square_z(counts)) < 4


def test_positions_are_uniform_for_a_long_permutation():
    orders = sampling.draw_permutations(257, 4000, seed=11)
    counts = np.stack([np.bincount(orders[:, j], minlength=257) for j in range(257)])
    assert (np.sort(orders, axis=1) == np.arange(257)).all()
    assert abs(chi_square_z(counts)) < 4


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "count"), [(4, 2, 6), (6, 1, 720), (6, 2, 90), (8, 8, 1)]
)
def test_ordered_partitions_matches_naive(n_samples, batch_size, count):
    partitions = sampling.ordered_partitions(n_samples, batch_size)
    assert sampling.n_ordered_partitions(n_samples, batch_size) == count == len(partitions)
    expected = [sum(batches, ()) for batches in _batches(n_samples, batch_size)]
    np.testing.assert_array_equal(partitions, expected)


def _batches(n_samples, batch_size):
    flat = naive.ordered_partitions(range(n_samples), batch_size)
    return [[order[i : i + batch_size] for i in range(0, n_samples, batch_size)] for order in flat]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sampling.ordered_partitions(12, 1),
            "479001600 ordered partitions, allowed: at most 1000000",
        ),
        (lambda: sampling.ordered_partitions(4096, 16), r"10\^\d+\.\d+ ordered partitions"),
        (lambda: sampling.n_ordered_partitions(6, 4), "batch_size is 4, allowed: a divisor of n_samples = 6"),
        (lambda: sampling.draw_permutations(0, 1, 0), "n_samples is 0, allowed: 1 to 2147483647"),
        (lambda: sampling.draw_permutations(3, 1, -1), "seed is -1"),
        (lambda: sampling.draw_permutations(3, 1, 0, 2**63), "first_index is 9223372036854775808"),
    ],
)
def test_sampling_rejects_bad_numbers(call, message):
    with pytest.raises(InputError, match=message):
        call()
