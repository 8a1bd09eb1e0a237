"""Derivatives of an optimiser's formula up to the third order, as NumPy functions.

They are derived by SymPy, once a formula. Those of the registry were derived when this package was made and stand in
`derivative_table`, so that SymPy is needed for formulas of one's own alone (extra ``symbolic``) and costs no second of
every start.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.derivative_table import SOURCES
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
        If it cannot be read, holds another name, or is in no table and SymPy is not installed.
    """
    own = used_names(formula, settings)
    source = SOURCES.get((formula, variables)) or derive(formula, variables, settings)
    names: dict[str, Any] = {name: getattr(np, name) for name in dir(np) if not name.startswith("_")}
    exec(source, names)
    n, function = len(variables), names["derivatives"]

    def evaluate(points: Array, values: Mapping[str, float]) -> Derivatives:
        tensors = [np.empty((n,) * order + points.shape[1:]) for order in ORDERS]
        found = function(*points, *(values[name] for name in own))
        for index, value in zip(_indices(n), found, strict=True):
            for place in set(permutations(index)):
                tensors[len(index)][place] = value
        return Derivatives(*tensors)

    return evaluate


def used_names(formula: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the names that a formula holds."""
    return tuple(name for name in names if re.search(rf"\b{name}\b", formula))


def derive(formula: str, variables: tuple[str, ...], settings: tuple[str, ...]) -> str:
    """Return the code of a function that lists the derivatives, of the variables and the settings that are used.

    Parameters and errors as in `derivatives_of`.
    """
    sympy = _sympy(formula)
    symbols, expression = parse(formula, variables + settings)
    wanted = [differentiate(expression, [symbols[i] for i in index]) for index in _indices(len(variables))]
    shared, results = sympy.cse(wanted)
    printer = sympy.printing.numpy.NumPyPrinter({"fully_qualified_modules": False})
    lines = [f"def derivatives({', '.join(variables + used_names(formula, settings))}):"]
    lines += [f"    {name} = {printer.doprint(value)}" for name, value in shared]
    lines += ["    return ("] + [f"        {printer.doprint(value)}," for value in results] + ["    )"]
    return "\n".join(lines) + "\n"


def _indices(n: int) -> list[tuple[int, ...]]:
    """List the derivatives of n variables, each once: (), (0,), .., (0, 0), (0, 1), .."""
    return [index for order in ORDERS for index in combinations_with_replacement(range(n), order)]


def parse(formula: str, names: tuple[str, ...]) -> tuple[list[Any], Any]:
    """Return SymPy's symbols of `names` and the expression of a formula; raise InputError as `derivatives_of`."""
    sympy = _sympy(formula)
    symbols = [sympy.Symbol(name, real=True) for name in names]
    known = ", ".join(names)
    try:
        expression = sympy.sympify(formula, {"abs": sympy.Abs} | dict(zip(names, symbols, strict=True)))
    except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise InputError(
            f"the formula {formula!r} cannot be read, allowed: an expression in {known}"
        ) from error
    others = sorted(str(symbol) for symbol in expression.free_symbols - set(symbols))
    if others:
        raise InputError(f"the formula {formula!r} holds {', '.join(others)}, allowed: {known}")
    return symbols, expression


def differentiate(expression: Any, symbols: list[Any]) -> Any:
    """Differentiate where the gradient is not 0: the corner of abs(g) there counts for nothing."""
    import sympy

    derivative = sympy.diff(expression, *symbols) if symbols else expression
    # factored, as differences of large terms lose digits: of z/sqrt(z^2 + delta) it is delta/(z^2 + delta)^(3/2)
    factored = sympy.factor(derivative.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0)).doit())
    return sympy.powsimp(factored)  # abs(g)^power/abs(g) is nan at 0


def _sympy(formula: str) -> Any:
    try:
        import sympy
    except ImportError:
        raise InputError(
            f"the formula {formula!r} is none of the built-in ones and SymPy, which derives it, is not there: "
            "install adam-minibatch-noise[symbolic]"
        ) from None
    return sympy
