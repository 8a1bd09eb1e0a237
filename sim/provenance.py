"""How a recorded table was made: command, sources, versions, processor, time."""

import hashlib
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any


def describe(program: str, argv: list[str], table: str | Path) -> dict[str, Any]:
    """Say how this process made a table.

    Parameters
    ----------
    program : str
        Name of its module, such as ``sim.exact``.
    argv : list of str
        Its flags.
    table : path
        The finished file.

    Returns
    -------
    dict
        `command`; `cpu_seconds` of the process until now, over all threads; `processor` and versions; `sha256_table`;
        `sha256_sources`, of every Python file of this package by its name.
    """
    import llvmlite
    import numba
    import numpy as np
    from llvmlite import binding

    package = Path(__file__).parent
    wide = "AVX-512" if binding.get_host_cpu_features().get("avx512f", False) else "no AVX-512"
    return {
        "command": shlex.join(["python", "-m", program, *argv]),
        "cpu_seconds": round(time.process_time(), 1),
        "processor": f"{_processor()}, {wide}",
        "python": platform.python_version(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "sha256_table": _sha256(Path(table)),
        "sha256_sources": {
            path.relative_to(package.parent).as_posix(): _sha256(path)
            for path in sorted(package.rglob("*.py"))
        },
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _processor() -> str:
    if sys.platform != "linux":
        return platform.processor()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
