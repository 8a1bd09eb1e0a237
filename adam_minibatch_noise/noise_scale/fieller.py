"""Confidence interval of a ratio of two means. Needs SciPy, for Student's distribution.

References
----------
.. [1] E. C. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16, 1954.
"""

import math

import numpy as np

from adam_minibatch_noise.errors import InputError

NEEDS_SCIPY = (
    "the interval of a noise scale needs SciPy: pip install 'adam-minibatch-noise[torch]', or scipy alone"
)


def check_level(level: float) -> None:
    """Refuse, by `InputError`, what is no confidence level."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}, allowed: > 0 and < 1")


def fieller_interval(
    numerators: np.ndarray, denominators: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a ratio of two positive means, from pairs that vary together.

    The ratios R that a t test of mean(numerator - R denominator) = 0 does not reject [1]_: exact for normal pairs.

    Parameters
    ----------
    numerators, denominators : array_like, shape (n,)
        Independent pairs; the interval is nan where one is not finite.
    level : float, 0 < level < 1

    Returns
    -------
    low, high : float
        0 <= low <= high <= infinity; (0, inf) for a single pair. If the ratios not rejected are in two pieces, as
        they can be where the denominator's mean is near zero, the interval spans both.

    Raises
    ------
    InputError
        Arrays of other shapes, or a level that is none.
    ImportError
        SciPy is missing.
    """
    try:
        from scipy import special
    except ImportError as error:
        raise ImportError(NEEDS_SCIPY) from error

    check_level(level)
    numerators, denominators = np.asarray(numerators, float), np.asarray(denominators, float)
    if numerators.ndim != 1 or numerators.shape != denominators.shape:
        shapes = f"{numerators.shape} and {denominators.shape}"
        raise InputError(f"numerators and denominators have shapes {shapes}, allowed: (n,) both")
    n = len(numerators)
    if n < 2:
        return 0.0, math.inf
    x, y = float(numerators.mean()), float(denominators.mean())
    if not math.isfinite(x + y):
        return math.nan, math.nan
    t_sq = float(special.stdtrit(n - 1, (1 + level) / 2)) ** 2
    (xx, xy), (_, yy) = (np.cov(numerators, denominators) * (t_sq / n)).tolist()
    # (x - R y)² <= xx - 2 R xy + R² yy, that is a R² - 2 b R + c <= 0
    a, b, c = y * y - yy, x * y - xy, x * x - xx
    discriminant = b * b - a * c
    if a > 0 and y > 0:
        root = math.sqrt(max(discriminant, 0.0))
        return max((b - root) / a, 0.0), max((b + root) / a, 0.0)
    # The far side of the larger root, of which zero may be a part.
    outside = discriminant > 0 and a < 0 and c > 0
    return ((b - math.sqrt(discriminant)) / a if outside else 0.0), math.inf
