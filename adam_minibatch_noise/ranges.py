"""What the arguments of the formulas may be: a refusal names the argument, the value and what is allowed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adam_minibatch_noise.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """Values that an argument may have; nan is outside of every range.

    Attributes
    ----------
    text : str
        Ends the sentence "..., allowed: ".
    inside : callable
        Of an array; returns an array of bool of its shape.
    """

    text: str
    inside: Callable[[Array], NDArray[np.bool_]]


FINITE = Range("a finite number", np.isfinite)
NONNEGATIVE = Range("a finite number >= 0", lambda x: (x >= 0) & (x < np.inf))
POSITIVE = Range("a finite number > 0", lambda x: (x > 0) & (x < np.inf))
NONNEGATIVE_OR_INFINITE = Range("a number >= 0", lambda x: x >= 0)
POSITIVE_OR_INFINITE = Range("a number > 0", lambda x: x > 0)
AT_LEAST_ONE = Range("a finite number >= 1", lambda x: (x >= 1) & (x < np.inf))
AT_LEAST_ONE_OR_INFINITE = Range("a number >= 1", lambda x: x >= 1)
WHOLE = Range("a whole number >= 0", lambda x: (x >= 0) & (x < np.inf) & (np.floor(x) == x))
BETA = Range(">= 0 and < 1", lambda x: (x >= 0) & (x < 1))
SHARE = Range(">= 0 and <= 1", lambda x: (x >= 0) & (x <= 1))


def within(name: str, value: ArrayLike, allowed: Range, shape: tuple[int | None, ...] | None = None) -> Array:
    """Return `value` as an array of float64, if all of it is in a range.

    Parameters
    ----------
    name : str
        Of the argument.
    value : array_like
    allowed : Range
    shape : tuple, optional
        Required; None in it stands for any length. () for a single number. Default: any shape.

    Raises
    ------
    InputError
        No real numbers, of another shape, or one outside the range.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}, allowed: {allowed.text}") from error
    if shape is not None and not _fits(array.shape, shape):
        expected = str(tuple("any" if size is None else size for size in shape)).replace("'", "")
        raise InputError(f"{name} has shape {array.shape}, allowed: {expected}")
    inside = allowed.inside(array)
    if not inside.all():
        raise InputError(f"{name} is {array[~inside].flat[0]}, allowed: {allowed.text}")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == length for length, size in zip(shape, wanted, strict=True)
    )
