"""One step of an optimiser, vector by vector, at the end of the sum over the samples of a batch.

Implements, with g the gradient of a batch and s = g^2, or the mean of the squared gradients of its micro-batches::

    g <- g + l2 w
    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) s
    w <- (1 - lr weight_decay) w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

for Adam and its relatives (RMSprop is Adam with beta1 = 0), and m <- beta1 m + g, w <- w - lr m for SGD with momentum.
"""

from numba import njit

from sim.small_networks.simd import LANES, entry, fma, lanes_of, load, square_root, store

ADAM, SGD, GRADIENT = range(3)
"""Rules; `GRADIENT` writes the gradient to the first moments and changes nothing else."""
ADAM_STEP, COLLECT, OTHER = range(3)
"""What happens to the sum of a chunk: Adam's step, nothing yet, or whatever else `finish` does."""
N_COEFFICIENTS = 9
BETA1, KEEP1, BETA2, KEEP2, CORRECTION2, EPS, RATE, DECAY, L2 = range(N_COEFFICIENTS)
"""Places in the coefficients of a step."""


@njit(cache=True, nogil=True)
def fill_coefficients(coefficients, rule, lr, beta1, beta2, eps, l2, decoupled, power1, power2, share):
    """Write the numbers of a step: `power1` = beta1^t, `power2` = beta2^t; squares are multiplied by `share`."""
    coefficients[BETA1], coefficients[BETA2] = beta1, beta2
    coefficients[KEEP1], coefficients[KEEP2] = 1 - beta1, (1 - beta2) * share
    coefficients[EPS], coefficients[L2] = eps, l2
    coefficients[DECAY] = 1 - lr * decoupled
    if rule == ADAM:
        coefficients[CORRECTION2] = 1 / (1 - power2) if power2 < 1 else 1.0
        coefficients[RATE] = -lr / (1 - power1)
    else:
        coefficients[CORRECTION2], coefficients[RATE] = 1.0, -lr


@njit(cache=True, nogil=True, forceinline=True)
def adam(weights, moment1, moment2, at, g, squares, c):
    """Take Adam's step for the parameters from `at` on."""
    m = fma(c[BETA1], load(moment1, at, g), g * c[KEEP1])
    v = fma(c[BETA2], load(moment2, at, g), squares * c[KEEP2])
    w = load(weights, at, g) * c[DECAY]
    store(moment1, at, m)
    store(moment2, at, v)
    store(weights, at, fma(m / (square_root(v * c[CORRECTION2]) + c[EPS]), c[RATE], w))


@njit(cache=True, nogil=True, forceinline=True)
def sgd(weights, moment1, at, g, c):
    """Take the step of SGD with momentum for the parameters from `at` on."""
    m = fma(c[BETA1], load(moment1, at, g), g)
    store(moment1, at, m)
    store(weights, at, fma(m, c[RATE], load(weights, at, g) * c[DECAY]))


@njit(cache=True, nogil=True, forceinline=True)
def apply(rule, weights, moment1, moment2, at, g, squares, micro, c):
    """Take the step for the parameters from `at` on; without `micro` the squares are those of `g`."""
    if rule == GRADIENT:
        store(moment1, at, g)
        return
    g = fma(c[L2], load(weights, at, g), g)
    if rule == ADAM:
        adam(weights, moment1, moment2, at, g, squares if micro else g * g, c)
    else:
        sgd(weights, moment1, at, g, c)


@njit(cache=True, nogil=True)
def finish(rule, weights, moment1, moment2, gradient, squares, at, g, begins, ends, micro, c):
    """Add what a chunk of samples gives to the gradient; at the end of a batch take the step.

    With `micro` a chunk is a micro-batch, whose squared gradient counts by itself.
    """
    square = g * g
    if not begins:
        g = g + load(gradient, at, g)
        if micro:
            square = square + load(squares, at, g)
    if not ends:
        store(gradient, at, g)
        if micro:
            store(squares, at, square)
        return
    apply(rule, weights, moment1, moment2, at, g, square, micro, c)


@njit(cache=True, nogil=True, forceinline=True)
def adam_l2(weights, moment1, moment2, at, g, c):
    """Take Adam's step with the gradient `g` of the whole batch, L2 added to it."""
    g = fma(c[L2], load(weights, at, g), g)
    adam(weights, moment1, moment2, at, g, g * g, c)


@njit(cache=True, nogil=True)
def step_matrix(
    a, a_stride, b, b_stride, n, n_rows, n_columns, at, rule, weights, moment1, moment2, gradient, squares, begins,
    ends, micro, c, tile,
):  # fmt: skip
    """Sum a[s, i] b[s, j] over n samples s for a matrix of parameters (n_rows, n_columns), and step; 4 rows at once."""
    lanes, goes_on = lanes_of(tile), not (begins or micro)
    kind = OTHER if micro or rule != ADAM else ADAM_STEP
    if not (micro or ends):
        kind = COLLECT
    for j in range(0, n_columns, lanes):
        for i in range(0, n_rows, 4):
            to0 = at + i * n_columns + j
            to1, to2, to3 = to0 + n_columns, to0 + 2 * n_columns, to0 + 3 * n_columns
            g0, g1, g2, g3 = tile, tile, tile, tile
            if goes_on:
                g0, g1 = load(gradient, to0, tile), load(gradient, to1, tile)
                g2, g3 = load(gradient, to2, tile), load(gradient, to3, tile)
            for s in range(n):
                u, left = load(b, s * b_stride + j, tile), s * a_stride + i
                g0, g1 = fma(entry(a, left), u, g0), fma(entry(a, left + 1), u, g1)
                g2, g3 = fma(entry(a, left + 2), u, g2), fma(entry(a, left + 3), u, g3)
            if (
                kind == ADAM_STEP
            ):  # one branch for four rows: what may call a function keeps nothing in registers
                adam_l2(weights, moment1, moment2, to0, g0, c)
                adam_l2(weights, moment1, moment2, to1, g1, c)
                adam_l2(weights, moment1, moment2, to2, g2, c)
                adam_l2(weights, moment1, moment2, to3, g3, c)
            elif kind == COLLECT:
                store(gradient, to0, g0)
                store(gradient, to1, g1)
                store(gradient, to2, g2)
                store(gradient, to3, g3)
            else:
                finish(
                    rule,
                    weights,
                    moment1,
                    moment2,
                    gradient,
                    squares,
                    to0,
                    g0,
                    begins or not micro,
                    ends,
                    micro,
                    c,
                )
                finish(
                    rule,
                    weights,
                    moment1,
                    moment2,
                    gradient,
                    squares,
                    to1,
                    g1,
                    begins or not micro,
                    ends,
                    micro,
                    c,
                )
                finish(
                    rule,
                    weights,
                    moment1,
                    moment2,
                    gradient,
                    squares,
                    to2,
                    g2,
                    begins or not micro,
                    ends,
                    micro,
                    c,
                )
                finish(
                    rule,
                    weights,
                    moment1,
                    moment2,
                    gradient,
                    squares,
                    to3,
                    g3,
                    begins or not micro,
                    ends,
                    micro,
                    c,
                )


@njit(cache=True, nogil=True)
def step_bias(b, n, at, rule, weights, moment1, moment2, gradient, squares, begins, ends, micro, c, zero):
    """Sum 16 entries over n samples, for parameters that every sample adds to alike, and step."""
    g = zero
    for s in range(n):
        g = g + load(b, s * LANES, zero)
    finish(rule, weights, moment1, moment2, gradient, squares, at, g, begins, ends, micro, c)


@njit(cache=True, nogil=True)
def step_embedding(
    n_entries, collected, rule, weights, moment1, moment2, gradient, squares, begins, ends, micro, c, zero
):
    """Step the rows of the embedding, whose gradient is in `collected`, which is left at zero."""
    if not (micro or ends):
        return  # goes on collecting
    first = begins or not micro
    for at in range(0, n_entries, LANES):
        g = load(collected, at, zero)
        store(collected, at, zero)
        finish(rule, weights, moment1, moment2, gradient, squares, at, g, first, ends, micro, c)
