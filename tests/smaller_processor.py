"""A processor without AVX-512, played by one that has it: what the libraries are told, here and nowhere else.

Run a command as it would run there, such as the suite (`make test-avx2`) or the workflow:

    python -m tests.smaller_processor make test-all
    python -m tests.smaller_processor snakemake --cores all --configfile config/test.yaml
"""

import os
import platform
import sys

NUMBA_FEATURES = (
    "+64bit,+adx,+aes,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fsgsbase,+fxsr,+lzcnt,+mmx,+movbe,"
    "+pclmul,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,-sse4a"
)
"""What AMD's Zen 3 and Intel's processors since Haswell have in common."""
ENVIRONMENT = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "NUMBA_CPU_NAME": "znver3",  # by itself it leaves AVX-512 on
    "NUMBA_CPU_FEATURES": NUMBA_FEATURES,
}
PLAYS = platform.machine() in ("x86_64", "AMD64")
"""Whether this processor can play it."""


def main() -> None:
    """Become the command, told so."""
    os.environ |= ENVIRONMENT
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
