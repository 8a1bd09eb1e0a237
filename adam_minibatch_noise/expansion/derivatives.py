"""Derivatives of an optimiser's formula up to the third order: symbolic, once a formula, as NumPy functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array

ORDERS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Derivatives:
    """A function of K variables and its derivatives at points of any shape.

    Attributes
    ----------
    value : (...) ndarray
    first : (K, ...) ndarray
    second : (K, K, ...) ndarray
    third : (K, K, K, ...) ndarray
    """

    value: Array
    first: Array
    second: Array
    third: Array


@cache
def derivatives_of(
    formula: str, variables: tuple[str, ...], settings: tuple[str, ...]
) -> Callable[[Array, Mapping[str, float]], Derivatives]:
    """Differentiate a formula; the result takes the variables (K, ...) and the settings by name.

    Parameters
    ----------
    formula : str
        In the variables and settings, with + - * / **, parentheses, numbers, sqrt, abs and what else SymPy knows.
    variables, settings : tuple of str

    Raises
    ------
    InputError
        If it cannot be read, or holds another name.
    """
    import sympy

    n = len(variables)
    which = [index for order in ORDERS for index in combinations_with_replacement(range(n), order)]
    symbols, expression = parse(formula, variables + settings)
    expressions = [
        expression if not index else differentiate(expression, [symbols[i] for i in index]) for index in which
    ]
    function = sympy.lambdify(symbols, expressions, "numpy", cse=True)

    def evaluate(points: Array, values: Mapping[str, float]) -> Derivatives:
        shape = points.shape[1:]
        found = function(*points, *(values[name] for name in settings))
        tensors = [np.empty((n,) * order + shape) for order in ORDERS]
        for index, value in zip(which, found, strict=True):
            for place in set(permutations(index)):
                tensors[len(index)][place] = value
        return Derivatives(*tensors)

    return evaluate


def parse(formula: str, names: tuple[str, ...]) -> tuple[list[Any], Any]:
    """Return SymPy's symbols of `names` and the expression of a formula; raise InputError as `derivatives_of`."""
    import sympy

    symbols = [sympy.Symbol(name, real=True) for name in names]
    try:
        expression = sympy.sympify(formula, {"abs": sympy.Abs} | dict(zip(names, symbols, strict=True)))
    except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise InputError(f"the formula {formula!r} cannot be read, allowed: an expression in {', '.join(names)}") from error
    others = sorted(str(symbol) for symbol in expression.free_symbols - set(symbols))
    if others:
        raise InputError(f"the formula {formula!r} holds {', '.join(others)}, allowed: {', '.join(names)}")
    return symbols, expression


def differentiate(expression: Any, symbols: list[Any]) -> Any:
    """Differentiate where the gradient is not 0: the corner of abs(g) there counts for nothing."""
    import sympy

    derivative = sympy.diff(expression, *symbols)
    return derivative.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0)).doit()
