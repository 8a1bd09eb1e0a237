"""Flags that say where the data and the device are, and what follows from them; they decide no number on the CPU."""

import argparse
import sys
import tempfile
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import allow_only
from common.names import CORPORA, DATASETS, EMBEDDED, NOT_DOWNLOADED
from common.settings import NONNEGATIVE, Number

if TYPE_CHECKING:
    import torch


threads = Number(int, 1, 256)
"""Type of a number of threads: the library of OpenMP ends the process where it cannot start as many."""


def add_flags(group: Any) -> None:
    """Add the flags to a parser or to one of its groups."""
    add = group.add_argument
    add(
        "--data-dir",
        type=Path,
        help="folder that holds the data under its own name, wikitext-2 or cifar-10-binary.tar.gz; else: download",
    )
    add("--cache-dir", type=Path, help="folder of downloads; None: ~/.cache/adam-minibatch-noise")
    add("--checkpoint-seconds", type=NONNEGATIVE, default=60.0, metavar="S", help="time between two states")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    add(
        "--compile",
        action=BooleanOptionalAction,
        help="compile the model for the device; None: where it is cuda (networks for images: there alone)",
    )
    add("--n-threads", type=threads, default=1, metavar="N", help="of the CPU; may change last digits")
    add("--progress", action=BooleanOptionalAction, default=sys.stderr.isatty(), help="show a bar")


def check_folders(arguments: argparse.Namespace, name: str) -> None:
    """Refuse a folder that holds nothing of what is trained on.

    Parameters
    ----------
    arguments : argparse.Namespace
    name : str
        Of the corpus or data set.

    Raises
    ------
    InputError
        `--data-dir` or `--cache-dir` with data that need none, or both at once.
    """
    kind = CORPORA if name in CORPORA else DATASETS
    for flag, without in (("data_dir", EMBEDDED), ("cache_dir", NOT_DOWNLOADED)):
        allowed = " or ".join(other for other in kind if other not in without)
        allow_only(arguments, [flag], name not in without, f"with data from {allowed}, this is {name}")
    allow_only(arguments, ["cache_dir"], arguments.data_dir is None, "without --data-dir")


def check_out(out: Path, *others: Path | None) -> None:
    """Refuse, before hours of work, results that could not be written.

    Parameters
    ----------
    out : path
        Must end in .csv.
    *others : path, optional
        Further files to be written.

    Raises
    ------
    InputError
        Another suffix.
    OSError
        A folder that cannot be made or written in.
    """
    if out.suffix != ".csv":
        raise InputError(f"--out is {str(out)!r}, allowed: a name that ends in .csv")
    for path in filter(None, (out, *others)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def device_type(arguments: argparse.Namespace) -> str:
    """Set the number of threads; return "cuda" or "cpu".

    Raises
    ------
    InputError
        `--device cuda` where there is none.
    """
    import torch

    torch.set_num_threads(arguments.n_threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is 'cuda', allowed: cpu, auto (torch finds no CUDA device)")
    return "cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu"


def compiled(arguments: argparse.Namespace, device: "torch.device") -> bool:
    """Whether to compile."""
    return device.type == "cuda" if arguments.compile is None else arguments.compile
