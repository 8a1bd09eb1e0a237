"""Problems from files: the per-sample derivatives of any loss at one point, or least squares; never unpickles."""

from pathlib import Path

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array
from sim.losses.problems import LeastSquares, Problem, Quadratics

LEAST_SQUARES = ("features", "targets", "theta")
DERIVATIVES = ("gradients", "hessians")
"""Arrays of either kind of file."""
ASYMMETRY = 1e-5
"""Largest accepted |H - H^T| of a sample, relative to its largest entry: what single precision leaves."""


def load_problem(path: str | Path) -> Problem:
    """Read a problem from an .npz file of real, finite arrays.

    Parameters
    ----------
    path : path
        Either `gradients` (n_samples, n_params) and `hessians` (n_samples, n_params, n_params), symmetric: the
        derivatives of every sample's loss at one point. Or least squares, `features` (n_samples, n_params), `targets`
        (n_samples,) and `theta` (n_params,). Other arrays are not read.

    Returns
    -------
    Quadratics or LeastSquares
        In float64; Hessians that are symmetric to single precision are made symmetric.

    Raises
    ------
    InputError
        Naming the file, the array and what is allowed.
    """
    try:
        with open(path, "rb") as handle:
            file = np.load(handle, allow_pickle=False)
            names = _kind(path, getattr(file, "files", ()))
            arrays = {name: _real(path, name, file[name]) for name in names}
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # each part of a file has a parser of its own, with errors of its own
        raise InputError(f"{path}: is not a readable .npz file of plain arrays ({error})") from error
    return _quadratics(path, **arrays) if names == DERIVATIVES else _least_squares(path, **arrays)


def _kind(path, there):
    """Choose the kind of a file by the arrays that it has."""
    kinds = [names for names in (DERIVATIVES, LEAST_SQUARES) if set(names) & set(there)]
    if len(kinds) == 2:
        raise InputError(
            f"{path}: holds arrays of both kinds, allowed: {' and '.join(DERIVATIVES)}, or {', '.join(LEAST_SQUARES)}"
        )
    names = kinds[0] if kinds else LEAST_SQUARES
    missing = [name for name in names if name not in there]
    if missing:
        other = "" if kinds else f", or {' and '.join(DERIVATIVES)}"
        raise InputError(f"{path}: array {missing[0]!r} is missing, needed: {', '.join(names)}{other}")
    return names


def _quadratics(path: str | Path, gradients: Array, hessians: Array) -> Quadratics:
    _check_matrix(path, "gradients", gradients)
    _check_shape(path, "hessians", hessians, (*gradients.shape, gradients.shape[1]))
    transposed = hessians.transpose(0, 2, 1)
    if not np.array_equal(hessians, transposed):
        with np.errstate(over="ignore"):
            asymmetry = np.abs(hessians - transposed).max(axis=(1, 2))
        bad = np.flatnonzero(asymmetry > ASYMMETRY * np.abs(hessians).max(axis=(1, 2)))
        if len(bad):
            raise InputError(
                f"{path}: array 'hessians' is off its transpose by {asymmetry[bad[0]]:.3g} at sample {bad[0]}, "
                "allowed: symmetric matrices"
            )
        hessians = hessians / 2 + transposed / 2
    return Quadratics(gradients, hessians)


def _least_squares(path: str | Path, features: Array, targets: Array, theta: Array) -> LeastSquares:
    _check_matrix(path, "features", features)
    _check_shape(path, "targets", targets, features.shape[:1])
    _check_shape(path, "theta", theta, features.shape[1:])
    return LeastSquares(features, targets, theta)


def _check_matrix(path: str | Path, name: str, array: Array) -> None:
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path}: array {name!r} has shape {array.shape}, allowed: (N, d) with N, d >= 1")


def _check_shape(path: str | Path, name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{path}: array {name!r} has shape {array.shape}, allowed: {shape}")


def _real(path: str | Path, name: str, array: np.ndarray) -> Array:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: array {name!r} has type {array.dtype}, allowed: real numbers")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: array {name!r} holds nan or infinity, allowed: finite numbers")
    return np.ascontiguousarray(array, dtype=np.float64)
