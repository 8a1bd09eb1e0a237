"""How a result was made: command, sources, versions, processor, time."""

import hashlib
import platform
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parent.parent
SHARED = ("adam_minibatch_noise", "common")
"""Packages that every program computes with, beside its own."""


def describe_table(program: str, argv: list[str], table: str | Path) -> dict[str, Any]:
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
        `sha256_sources`, of every Python file of the program's package, of the library and of `common`, by its name.
    """
    import llvmlite
    import numba
    import numpy as np
    from numba.core.registry import cpu_target

    features = cpu_target.target_context.codegen().magic_tuple()[2]  # what is compiled for, not what there is
    wide = "AVX-512" if "+avx512f" in features.split(",") else "no AVX-512"
    return {
        "command": shlex.join(["python", "-m", program, *argv]),
        "cpu_seconds": round(time.process_time(), 1),
        "processor": f"{processor_name()}, {wide}",
        "python": platform.python_version(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "sha256_table": _sha256(Path(table)),
        "sha256_sources": {name: _sha256(ROOT / name) for name in _sources(program.split(".")[0])},
    }


def describe_device(device: "torch.device") -> dict[str, Any]:
    """Name the device, the versions and the sources that a training runs with.

    Parameters
    ----------
    device : torch.device
        The one that computes.

    Returns
    -------
    dict
        `sources_sha256` is over every Python file of `train`, of the library and of `common`, names and bytes, in the
        order of their names.
    """
    import numpy as np
    import torch

    digest = hashlib.sha256()
    for name in _sources("train"):
        digest.update(f"{name}\0".encode() + (ROOT / name).read_bytes() + b"\0")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "n_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "sources_sha256": digest.hexdigest(),
    }


def processor_name() -> str:
    """Return the name of the processor, as the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _sources(package: str) -> list[str]:
    paths = [path for name in (package, *SHARED) for path in (ROOT / name).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
