"""What a result was made with: machine, versions, sources."""

import hashlib
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch


def describe(device: torch.device) -> dict[str, Any]:
    """Name the machine, the versions and the sources at work.

    Parameters
    ----------
    device : torch.device
        The one that computes.

    Returns
    -------
    dict
        `sources_sha256` is over every Python file of this package and `sim.commands`, `sim.records`, names and
        bytes, in the order of their names.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    shared = [package.parent / "sim" / name for name in ("commands.py", "records.py")]
    for path in [*sorted(package.rglob("*.py")), *shared]:
        digest.update(f"{path.relative_to(package.parent).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "n_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "sources_sha256": digest.hexdigest(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
