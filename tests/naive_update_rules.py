"""Updates of every optimiser written out as its authors state it, from all gradients so far; twins of the registry.

Each takes micro-batch gradients (n_steps, n_micro, n_params), the parameters, and settings.
"""

import numpy as np


def ema(values, beta):
    """Exponential moving average by its recursion, with bias correction."""
    average = np.zeros_like(values[0])
    for value in values:
        average = beta * average + (1 - beta) * value
    return average / (1 - beta ** len(values))


def sgd_momentum(g, _, beta1):
    velocity = 0.0
    for batch in g.mean(axis=1):
        velocity = beta1 * velocity + batch
    return velocity


def nesterov(g, theta, beta1):
    return g[-1].mean(axis=0) + beta1 * sgd_momentum(g, theta, beta1)


def adam(g, _, beta1, beta2, eps_root=0.0, eps=0.0):
    batches = g.mean(axis=1)
    return ema(batches, beta1) / (np.sqrt(ema(batches**2, beta2) + eps_root) + eps)


def adamw(g, theta, weight_decay, **settings):
    return adam(g, theta, **settings) + weight_decay * theta


def rmsprop(g, _, beta2, eps_root=0.0, eps=0.0):
    batches = g.mean(axis=1)
    return batches[-1] / (np.sqrt(ema(batches**2, beta2) + eps_root) + eps)


def nadam(g, _, beta1, beta2, eps_root=0.0, eps=0.0):
    batches, average, mass = g.mean(axis=1), 0.0, 0.0
    for batch in batches:
        average, mass = beta1 * average + (1 - beta1) * batch, beta1 * mass + 1 - beta1
    ahead, mass = beta1 * average + (1 - beta1) * batches[-1], beta1 * mass + 1 - beta1
    return ahead / mass / (np.sqrt(ema(batches**2, beta2) + eps_root) + eps)


def adam_p(g, _, beta1, beta2, power, eps_root=0.0):
    batches = g.mean(axis=1)
    return ema(batches, beta1) / (ema(np.abs(batches) ** power, beta2) + eps_root) ** (1 / power)


def ademamix(g, _, beta1, beta2, beta3, alpha, eps_root=0.0):
    batches = g.mean(axis=1)
    first = ema(batches, beta1) + alpha * ema(batches, beta3)
    return first / np.sqrt(ema(batches**2, beta2) + eps_root)


def invariant_adam(g, _, beta1, beta2, eps_root=0.0, eps=0.0):
    squares = (g**2).mean(axis=1)
    return ema(g.mean(axis=1), beta1) / (np.sqrt(ema(squares, beta2) + eps_root) + eps)


def smooth_sign(x, delta):
    return x / np.sqrt(x**2 + delta)


def signum(g, _, beta1, delta):
    return smooth_sign(ema(g.mean(axis=1), beta1), delta)


def lion(g, _, beta1, beta2, delta):
    batches = g.mean(axis=1)
    if len(batches) == 1:
        return smooth_sign(batches[0], delta)
    return smooth_sign(beta1 * ema(batches[:-1], beta2) + (1 - beta1) * batches[-1], delta)


UPDATES = {
    "sgd-momentum": sgd_momentum,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "nadam": nadam,
    "adam-p": adam_p,
    "ademamix": ademamix,
    "invariant-adam": invariant_adam,
    "signum-smooth": signum,
    "lion-smooth": lion,
}
