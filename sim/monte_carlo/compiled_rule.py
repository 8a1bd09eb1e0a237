"""An update rule as compiled functions of whole arrays, made from its formulas, and its weights as tables.

The functions are handed to kernels as pointers, so that a kernel is compiled once for all rules and kept on disk, and
of a new rule only the formulas themselves are compiled.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import boolean, config, float64, njit, types, void
from numba.core.types.function_type import CompileResultWAP

from adam_minibatch_noise.expansion.derivatives import differentiate, parse
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array

_LINE, _PLANE, _BLOCK = float64[::1], float64[:, ::1], float64[:, :, ::1]
_WRITE_PSI = void(_LINE, _LINE, _PLANE, _PLANE)
_UPDATE = void(_PLANE, _LINE, _LINE)
_PARTIALS = void(_PLANE, _LINE, _PLANE)
_EVALUATE = void(
    types.FunctionType(_WRITE_PSI), _PLANE, _PLANE, _LINE, boolean[::1], _BLOCK, _BLOCK, _BLOCK, _BLOCK
)


class Formulas(NamedTuple):
    """Compiled functions of an update rule with K averages; `settings` (n_settings,) are its numbers.

    Attributes
    ----------
    evaluate : callable
        ``evaluate(write_psi, micro, batches, settings, of_micro_batches, values, slopes, psi, bends)`` writes psi_a and
        psi_a' of the gradients of m batches (m, d) into `psi` and `bends` (K, m, d) and, where there are more
        micro-batches (n, d) than batches, those of them into `values` and `slopes` (K, n, d), and the mean into `psi`
        where an average is of them. The same for all rules.
    write_psi : callable
        ``write_psi(g, settings, values, slopes)`` writes psi_a and psi_a' of gradients (n,) into (K, n).
    update : callable
        ``update(z, settings, out)`` writes Phi of averages (K, n) into (n,).
    partials : callable
        ``partials(z, settings, out)`` writes dPhi/dz_a into (K, n).
    """

    evaluate: Callable[..., None]
    write_psi: Callable[..., None]
    update: Callable[..., None]
    partials: Callable[..., None]


class RuleTables(NamedTuple):
    """Numbers of an update rule, tabulated up to some step, as kernels take them.

    Attributes
    ----------
    settings : (n_settings,) ndarray
    decay : (K,) ndarray
    past, current : (K, n_steps) ndarray
        Factors of `expansion.averaging.Weights`; `past` of step 0 is 0.
    of_micro_batches, of_gradient : (K,) ndarray of bool
        Whether psi is taken of micro-batches, and whether it is the gradient itself.
    """

    settings: Array
    decay: Array
    past: Array
    current: Array
    of_micro_batches: np.ndarray
    of_gradient: np.ndarray


def formulas_of(rule: UpdateRule) -> Formulas:
    """Compile the formulas of a rule; those of the same formulas and names of settings are the same functions."""
    functions = tuple(average.function for average in rule.averages)
    return _compiled(rule.formula, functions, tuple(rule.settings))


def tabulate_rule(rule: UpdateRule, n_steps: int) -> RuleTables:
    """Tabulate the numbers of a rule for steps 0 .. n_steps - 1."""
    steps = np.arange(float(n_steps))
    past = np.array([weights.past(np.maximum(steps, 1)) for weights in rule.weights])
    past[:, 0] = 0.0
    return RuleTables(
        np.array(list(rule.settings.values()), np.float64),
        np.array([float(weights.decay[0]) for weights in rule.weights]),
        past,
        np.array([weights.current(steps) for weights in rule.weights]),
        np.array([average.of_micro_batches for average in rule.averages]),
        np.array([average.function == "g" for average in rule.averages]),
    )


@cache
def _compiled(formula: str, functions: tuple[str, ...], settings: tuple[str, ...]) -> Formulas:
    variables = tuple(f"z{a + 1}" for a in range(len(functions)))
    symbols, phi = parse(formula, (*variables, *settings))
    psi = []
    for function in functions:
        (g, *_), expression = parse(function, ("g", *settings))
        psi.append((expression, differentiate(expression, [g])))
    read_z = {name: f"z[{a}, i]" for a, name in enumerate(variables)}
    partials = [differentiate(phi, [symbol]) for symbol in symbols[: len(variables)]]
    values = [(f"values[{a}, i]", value) for a, (value, _) in enumerate(psi)]
    slopes = [(f"slopes[{a}, i]", slope) for a, (_, slope) in enumerate(psi)]
    return Formulas(
        pointer(_evaluate, _EVALUATE),
        _loop("g, settings, values, slopes", "g.size", {"g": "g[i]"}, settings, values + slopes, _WRITE_PSI),
        _loop("z, settings, out", "out.size", read_z, settings, [("out[i]", phi)], _UPDATE),
        _loop(
            "z, settings, out",
            "z.shape[1]",
            read_z,
            settings,
            [(f"out[{a}, i]", p) for a, p in enumerate(partials)],
            _PARTIALS,
        ),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _evaluate(write_psi, micro, batches, settings, of_micro_batches, values, slopes, psi, bends):
    """See `Formulas`."""
    n_averages, flat = len(psi), batches.size
    write_psi(
        batches.reshape(flat), settings, psi.reshape((n_averages, flat)), bends.reshape((n_averages, flat))
    )
    n_micro = len(micro) // len(batches)
    if n_micro == 1:
        return
    flat = micro.size
    write_psi(
        micro.reshape(flat), settings, values.reshape((n_averages, flat)), slopes.reshape((n_averages, flat))
    )
    for a in range(n_averages):
        if of_micro_batches[a]:
            for k in range(len(batches)):  # assignments to slices would take twice the seconds to compile
                for j in range(batches.shape[1]):
                    psi[a, k, j] = 0.0
                    for i in range(k * n_micro, (k + 1) * n_micro):
                        psi[a, k, j] += values[a, i, j] / n_micro


def pointer(function: Any, signature: Any) -> Callable[..., Any]:
    """Compile a jitted function for one signature and return what kernels take as a pointer to it.

    Parameters
    ----------
    function : callable
        Jitted.
    signature : numba.core.typing.Signature

    Returns
    -------
    callable
        Its type in Numba is that of the signature alone: a kernel that takes it is compiled once for all such
        functions. With Numba's compiler off the function itself.
    """
    if config.DISABLE_JIT:
        return function
    function.compile(signature.args)
    return CompileResultWAP(function.overloads[signature.args])


def _loop(
    arguments: str,
    size: str,
    read: dict[str, str],
    settings: tuple[str, ...],
    write: list[tuple[str, Any]],
    signature: Any,
) -> Callable[..., None]:
    """Make a compiled function that evaluates expressions at every i of its arrays."""
    import sympy

    # in the code every name begins with an underscore, so that none hides an argument
    own = {sympy.Symbol(name, real=True): sympy.Symbol(f"_{name}", real=True) for name in (*read, *settings)}
    shared, results = sympy.cse(
        [expression.subs(own) for _, expression in write], sympy.numbered_symbols("_x")
    )
    lines = [f"def loop({arguments}):"]
    lines += [f"    _{name} = settings[{i}]" for i, name in enumerate(settings)]
    lines += [f"    for i in range({size}):"]
    lines += [f"        _{name} = {source}" for name, source in read.items()]
    lines += [f"        {symbol} = {sympy.pycode(value)}" for symbol, value in shared]
    lines += [
        f"        {place} = {sympy.pycode(value)}" for (place, _), value in zip(write, results, strict=True)
    ]
    names: dict[str, Any] = {"math": __import__("math")}
    exec("\n".join(lines), names)
    return pointer(njit(nogil=True, error_model="numpy")(names["loop"]), signature)
