import os
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import binding
from numba import njit

from sim.monte_carlo import simd

PROGRAM = """
import sys
import numpy as np
from sim.monte_carlo import corr
from sim.monte_carlo import sampling
rng = np.random.default_rng(3)
problem = rng.normal(size=(12, 20)), rng.normal(size=12)
orders = sampling.draw_permutations(12, 4, seed=2)
values = corr.corr_of_permutations_least_squares(*problem, 3, 0.9, 0.999, 0.01, orders)
np.save(sys.stdout.buffer, values)
"""


@njit
def every_operation(table, i, zero, weight, out):
    n_lanes = simd.lanes_of(zero)
    x, y = simd.load(table, (i, 0), zero), simd.load(table, (i, n_lanes), zero)
    simd.store(out, (0, 0), x + y)
    simd.store(out, (1, 0), x * y)
    simd.store(out, (2, 0), x * weight + y)
    simd.store(out, (3, 0), weight * x)
    simd.store(out, (4, 0), simd.reciprocal_sqrt(x * x))
    simd.store(out, (5, 0), simd.sums_of_four(x, y, x * 2.0, zero))
    simd.store(out, (6, 0), weight / x)
    simd.store(out, (7, 0), x / y)


@pytest.mark.parametrize("lanes", [8, 16, 32, 64])
def test_vectors_match_numpy(lanes, rng):
    table, out = rng.normal(size=(3, 2 * lanes)), np.zeros((8, lanes))
    every_operation(table, 1, simd.zero_vector(lanes), 0.3, out)
    x, y = table[1, :lanes], table[1, lanes:]
    np.testing.assert_allclose(out[:5], [x + y, x * y, x * 0.3 + y, x * 0.3, 1 / np.abs(x)], rtol=1e-14)
    np.testing.assert_allclose(out[5, :4], [x.sum(), y.sum(), 2 * x.sum(), 0], atol=1e-14)
    assert (out[5, 4:] == 0).all()
    np.testing.assert_array_equal(out[6:], [0.3 / x, x / y])


def test_reciprocal_sqrt_within_4_ulp_over_the_whole_range(rng):
    x = 10 ** rng.uniform(-300, 300, size=(1, 4096))
    out = np.empty_like(x)

    @njit
    def fill(x, zero, out):
        for c in range(0, x.shape[1], simd.lanes_of(zero)):
            simd.store(out, (0, c), simd.reciprocal_sqrt(simd.load(x, (0, c), zero)))

    fill(x, simd.zero_vector(32), out)
    exact = 1 / np.sqrt(x)
    assert (np.abs(out - exact) <= 4 * np.spacing(exact)).all()


def test_aligned_zeros_begins_a_cache_line():
    arrays = [simd.aligned_zeros((3, n)) for n in range(1, 20)]
    assert all(array.ctypes.data % simd.ALIGNMENT == 0 and not array.any() for array in arrays)


@pytest.mark.parametrize("change", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_kernels_agree_on_a_plain_processor_and_without_jit(change, tmp_path):
    def values(**environment):
        command = [sys.executable, "-W", "error", "-c", PROGRAM]
        output = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True).stdout
        (tmp_path / "values.npy").write_bytes(output)
        return np.load(tmp_path / "values.npy")

    np.testing.assert_allclose(values(**change), values(), rtol=1e-12, atol=1e-12)


@njit
def products(x, y):
    before = x[0] * y[0]
    mode = simd.flush_subnormals(-1)
    during = x[1] * y[1]
    simd.flush_subnormals(mode)
    return before, during, x[2] * y[2]


@pytest.mark.skipif("x86" not in binding.get_process_triple(), reason="another processor: nothing is flushed")
def test_subnormals_are_flushed_in_between_and_not_after():
    assert products(np.full(3, 1e-160), np.full(3, 1e-150)) == (1e-310, 0.0, 1e-310)
