"""In which order a run sees its samples: a fresh permutation an epoch, or draws with replacement."""

import numpy as np
from numba import njit

from sim.monte_carlo.sampling import fill_permutation

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@njit(cache=True, nogil=True)
def _mix(word):
    """Hash 64 bits to 64 bits, one to one (SplitMix64's output function)."""
    word = (word ^ (word >> _30)) * _MIX_1
    word = (word ^ (word >> _27)) * _MIX_2
    return word ^ (word >> _31)


@njit(cache=True, nogil=True)
def fill_order(order, picks, counters, seed, epoch, replacement):
    """Write the samples of an epoch, (n,) int32, in the order of use; `seed` and `epoch` are uint64.

    `picks` and `counters` are those of `sim.monte_carlo.sampling.fill_permutation`. A draw with replacement is n times
    32 random bits: it favours a sample by at most n / 2^32, 1e-6 for 4096 samples.
    """
    if not replacement:
        fill_permutation(order, picks, counters, seed, epoch)
        return
    key = _mix(_mix(seed ^ _MIX_1) + _GOLDEN * epoch)
    n = np.uint64(order.size)
    for step in range(order.size):
        word = _mix(key + _GOLDEN * np.uint64(step)) >> _32
        order[step] = np.int32((word * n) >> _32)
