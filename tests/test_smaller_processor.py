"""Training on images and the compiled kernels as on a processor without AVX-512, whatever this one is."""

import os
import re
import subprocess
import sys

import pytest

from tests import smaller_processor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(not smaller_processor.PLAYS, reason="no x86 processor"),
]
MODULES = "train_networks train_image_sweep sim_simd sim_corr sim_corr_cnn sim_feature_noise"
INSTRUCTIONS = """
import re
import numpy as np
import torch
from numba import njit
from sim.monte_carlo.simd import vector_bits

@njit(fastmath=True)
def dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total

dot(np.ones(9), np.ones(9))
(assembly,) = dot.inspect_asm().values()
print(vector_bits(), sorted(set(re.findall("[yz]mm", assembly))), torch.backends.cpu.get_cpu_capability())
torch.nn.functional.conv2d(torch.ones(8, 16, 32, 32), torch.ones(16, 16, 3, 3))
"""


def run(*argv, **environment):
    command = [sys.executable, "-m", "tests.smaller_processor", sys.executable, *argv]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_every_library_leaves_avx_512_alone():
    done = run("-c", INSTRUCTIONS, ONEDNN_VERBOSE="1")
    assert done.returncode == 0, done.stderr
    assert "256 ['ymm'] AVX2" in done.stdout
    assert re.search(r"onednn_verbose,.*cpu,isa:Intel AVX2$", done.stdout, re.MULTILINE)
    assert ":avx512" not in done.stdout


def test_image_training_and_kernels_pass():
    modules = [f"tests/test_{name}.py" for name in MODULES.split()]
    done = run("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", "not faults", *modules)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100
