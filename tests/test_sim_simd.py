import os
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import binding
from numba import config, njit

from sim.monte_carlo import simd

PROGRAM = """
import sys
import numpy as np
from sim.monte_carlo import corr
from sim.monte_carlo import sampling
rng = np.random.default_rng(3)
problem = rng.normal(size=(12, 20)), rng.normal(size=12)
orders = sampling.draw_permutations(12, 4, seed=2)
values = corr.adam_least_squares(*problem, 3, 0.9, 0.999, 0.01)(orders)
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
    simd.store(out, (8, 0), simd.dots_of_four(x, y, x * 2.0, zero, y))
    simd.store(out, (9, 0), simd.square_root(x * x))


@pytest.mark.parametrize("lanes", [8, 16, 32, 64])
def test_vectors_match_numpy(lanes, rng):
    table, out = rng.normal(size=(3, 2 * lanes)), np.zeros((10, lanes))
    every_operation(table, 1, simd.zero_vector(lanes), 0.3, out)
    x, y = table[1, :lanes], table[1, lanes:]
    np.testing.assert_allclose(out[:5], [x + y, x * y, x * 0.3 + y, x * 0.3, 1 / np.abs(x)], rtol=1e-14)
    np.testing.assert_allclose(out[5, :4], [x.sum(), y.sum(), 2 * x.sum(), 0], atol=1e-14)
    assert (out[5, 4:] == 0).all()
    np.testing.assert_array_equal(out[6:8], [0.3 / x, x / y])
    np.testing.assert_allclose(out[8, :4], [x @ y, y @ y, 2 * (x @ y), 0], atol=1e-14 * lanes)
    np.testing.assert_allclose(out[9], np.abs(x), rtol=1e-14)


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


@pytest.mark.faults
@pytest.mark.parametrize("change", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_kernels_agree_on_a_plain_processor_and_without_jit(change, tmp_path):
    def values(**environment):
        command = [sys.executable, "-W", "error", "-c", PROGRAM]
        output = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True).stdout
        (tmp_path / "values.npy").write_bytes(output)
        return np.load(tmp_path / "values.npy")

    np.testing.assert_allclose(values(**change), values(), rtol=1e-12, atol=1e-12)


EVERY_KERNEL = """
import sys
import numpy as np
from adam_minibatch_noise.expansion.registry import make_rule
from sim.losses import cnn
from sim.losses.problems import LeastSquares
from sim.monte_carlo import corr, corr_cnn, corr_kernels, sampling, simd, trajectories
from sim.monte_carlo.rule_corr import corr_of_rule
if sys.argv[1] == "roots":
    simd._has_table_of_roots = lambda: False
rng, adam = np.random.default_rng(3), (0.9, 0.99, 0.01)
sgd, others = [], []
for n_samples, batch_size, d in [(24, 6, 24), (30, 5, 32), (24, 1, 33), (32, 8, 70)]:
    features, targets = rng.normal(size=(n_samples, d)), rng.normal(size=n_samples)
    orders = sampling.draw_permutations(n_samples, 4, seed=2)
    others.append(corr.adam_least_squares(features, targets, batch_size, *adam)(orders))
    problem = features, targets, np.zeros(d), batch_size, 0.01
    others.append(trajectories.adam_runs(*problem, *adam, 2, 3, seed=1))
    sgd += [orders, corr_of_rule(LeastSquares(*problem[:3]), make_rule("sgd-momentum"), batch_size)(orders)]
hessians = rng.normal(size=(24, 20, 20))
problem = rng.normal(size=(24, 20)), hessians + hessians.transpose(0, 2, 1), 4
orders = sampling.draw_permutations(24, 4, seed=2)
others.append(corr.adam_quadratics(*problem, *adam)(orders))
network = cnn.make_weights(3, 9, 0.1, 1), cnn.make_data(24, 9, 8, 1.0, 0.2, 1), 4
others.append(corr_cnn.adam_cnn(*network, *adam)(orders))
arrays = {"bits": simd.vector_bits(), "wide": False}
if sys.argv[1] != "cached":
    arrays["wide"] = any("zmm" in code for code in corr_kernels.corr_least_squares.inspect_asm().values())
for kind, values in [("sgd", sgd), ("others", others)]:
    arrays[kind] = np.concatenate([np.ravel(part) for part in values])
np.savez(sys.stdout.buffer, **arrays)
"""


def avx2_settings():
    """Variables that have Numba compile for Zen 3; the features are this processor's, less what Zen 3 lacks."""
    features = binding.get_host_cpu_features()
    if not (features.get("avx2") and features.get("fma")):
        pytest.skip("no AVX2 and FMA here")
    lacks = "avx512", "avx10", "amx", "gfni", "avxvnni", "avxifma", "avxneconvert"
    kept = {name: has and not name.startswith(lacks) for name, has in features.items()}
    words = ",".join(f"{'+' if has else '-'}{name}" for name, has in kept.items())
    return {"NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": words}


@pytest.mark.slow
@pytest.mark.faults  # every kernel is compiled for another processor
@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_avx2_and_this_processor_differ_in_reciprocal_roots_only(tmp_path):
    def values(kind, **settings):
        command = [sys.executable, "-W", "error", "-c", EVERY_KERNEL, kind]
        output = subprocess.run(command, env=os.environ | settings, capture_output=True, check=True).stdout
        (tmp_path / f"{kind}.npz").write_bytes(output)
        return np.load(tmp_path / f"{kind}.npz")

    here = values("cached")
    here_by_roots = values("roots", NUMBA_CACHE_DIR=str(tmp_path / "roots"))  # a cache holds one kind of root
    avx2 = values("avx2", NUMBA_CACHE_DIR=str(tmp_path / "avx2"), **avx2_settings())
    assert (avx2["bits"], avx2["wide"]) == (256, False)
    assert here_by_roots["wide"] == (here["bits"] == 512)
    for kind in ("sgd", "others"):
        assert avx2[kind].tobytes() == here_by_roots[kind].tobytes()
    assert avx2["sgd"].tobytes() == here["sgd"].tobytes()
    largest = np.abs(avx2["others"]).max()
    np.testing.assert_allclose(here["others"], avx2["others"], rtol=1e-12, atol=1e-14 * largest)


@njit
def products(x, y):
    before = x[0] * y[0]
    mode = simd.flush_subnormals(-1)
    during = x[1] * y[1]
    simd.flush_subnormals(mode)
    return before, during, x[2] * y[2]


@pytest.mark.skipif(
    config.DISABLE_JIT or "x86" not in binding.get_process_triple(), reason="nothing is flushed there"
)
def test_subnormals_are_flushed_in_between_and_not_after():
    assert products(np.full(3, 1e-160), np.full(3, 1e-150)) == (1e-310, 0.0, 1e-310)


OTHER_VECTORS = """
import operator
import numpy as np
from numba import njit, types
from numba.extending import lower_builtin
from sim.monte_carlo import simd

for function in (operator.add, operator.mul, operator.truediv):  # as a module would with vectors of its own
    @lower_builtin(function, types.VarArg(types.Any))
    def other(context, builder, sig, args):
        raise TypeError(f"not mine: {sig}")

@njit
def combine(x, zero):
    one = simd.load(x, (0, 0), zero)
    simd.store(x, (0, 0), 2.0 * one + one * 0.5 + one / one)

x = np.arange(1.0, 9.0).reshape(1, 8)
combine(x, simd.zero_vector(8))
print(x[0].tolist() == [2.5 * i + 1 for i in range(1, 9)])
"""


def test_vectors_of_another_module_leave_the_operators_alone():
    done = subprocess.run([sys.executable, "-c", OTHER_VECTORS], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


OTHER_VERSION = """
import sys, zlib
import numpy as np
if sys.argv[1] == "other":
    zlib.crc32 = lambda text: 12345  # as if one of the files had been edited
from sim.monte_carlo import corr, trajectories
rng = np.random.default_rng(3)
features, targets = rng.normal(size=(8, 9)), rng.normal(size=8)
adam = 0.9, 0.99, 0.01
trajectories.adam_runs(features, targets, np.zeros(9), 4, 0.01, *adam, 1, 2, seed=1)
orders = np.arange(8, dtype=np.int32)[None]
corr.adam_least_squares(features, targets, 4, *adam)(orders)
"""


@pytest.mark.faults
@pytest.mark.slow
def test_a_cache_of_another_version_is_not_used(tmp_path):
    for version in ("this", "other"):
        command = [sys.executable, "-c", OTHER_VERSION, version]
        settings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
