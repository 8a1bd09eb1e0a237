"""Files that let a killed run go on as if nothing had happened."""

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import torch

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write, remove_abandoned

MAGIC = b"adam-minibatch-noise checkpoint 1\n"


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path` in one go: a reader finds the old state or the new one.

    The state before stays beside it, as `PATH.previous`, for the case that the new one is damaged later.

    Parameters
    ----------
    path : path
    state : dict
        Of tensors, numbers, strings and None, and lists and dicts of them; `state["settings"]` is a dict.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    with atomic_write(path, "wb") as file:
        file.write(_header(payload))
        file.write(payload)
        if path.exists():
            os.replace(path, _previous(path))


def exists(path: Path) -> bool:
    """Whether there is a state to go on from."""
    return path.exists() or _previous(path).exists()


def remove(path: Path) -> None:
    """Remove a checkpoint, the one before it, and what killed writers left of it."""
    remove_abandoned(path)
    path.unlink(missing_ok=True)
    _previous(path).unlink(missing_ok=True)


def load(path: Path, settings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Read what `save` wrote, or the state before if that is damaged, with a word on standard error.

    Parameters
    ----------
    path : path
    settings : dict
        What `state["settings"]` must be.
    device : torch.device
        Where the tensors go.

    Raises
    ------
    InputError
        No file is what `save` wrote, to the byte; or it belongs to other settings.
    """
    try:
        state = read(path, device)
    except (InputError, FileNotFoundError) as error:
        if not _previous(path).exists():
            raise
        print(f"warning: {error}; going on from the state before", file=sys.stderr)
        state = read(_previous(path), device)
    for name, value in settings.items():
        there = state.get("settings", {}).get(name)
        if there != value:
            raise InputError(
                f"{path}: the checkpoint is of another run ({name} is {there!r} there, "
                f"{value!r} here); delete it to start over"
            )
    return state


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """Read one file that `save` wrote.

    Raises
    ------
    InputError
        The file is not what `save` wrote, to the byte, or no state of a run.
    """
    data = path.read_bytes()
    payload = memoryview(data)[len(_header(b"")) :]
    if not data.startswith(_header(payload)):
        raise InputError(f"{path}: the checkpoint is damaged (sha256 differs); delete it to start over")
    try:
        state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except Exception as error:  # each part of the file has a parser of its own, with errors of its own
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: is not a checkpoint ({type(error).__name__}: {reason})") from error
    if not isinstance(state, dict) or not isinstance(state.get("settings", {}), dict):
        raise InputError(f"{path}: is not a checkpoint (it holds no settings)")
    return state


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def _header(payload: bytes | memoryview) -> bytes:
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"


def get_rng_state() -> dict[str, Any]:
    """State of torch's random number generators, from which dropout draws."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `get_rng_state` returned."""
    torch.set_rng_state(state["cpu"].cpu())
    torch.cuda.set_rng_state_all([entry.cpu() for entry in state["cuda"]])
