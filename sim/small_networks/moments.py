"""Gradient, Hessian and noise of every component at a point of a run: what Proposition 3.3 needs, in float64."""

from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array, Constants, Moments, expected_corr_terms
from sim.losses.problems import LeastSquares
from sim.small_networks import training
from sim.small_networks.kernels import LINEAR
from sim.small_networks.layers import DENSE
from sim.small_networks.runs import rounded
from sim.small_networks.settings import Settings
from sim.small_networks.tasks import Task

WEIGHTINGS = ("proposition", "rate")
"""|g_j| E[Corr_j] projected onto the gradient of |g|_1, and the same with weights 1/|g_j|."""
N_TERMS = 5
NOISE = (
    "n_params",
    "noise_scale",
    "median_noise",
    "largest_share",
    *(f"{name}_{i}" for name in WEIGHTINGS for i in range(1, N_TERMS + 1)),
)
"""What `component_noise` returns."""


def moments_of(task: Task, weights: np.ndarray) -> Moments:
    """Return the moments of the training samples.

    Parameters
    ----------
    task : Task
        Linear regression, or one hidden layer on numbers and few classes.
    weights : (n_entries,) ndarray
        As the runs lay them out.

    Returns
    -------
    Moments
        Parameters of a network: hidden unit by hidden unit (bias last), then class by class (bias last).

    Raises
    ------
    InputError
        Another network.
    """
    net, n = task.network, task.n_train
    w = np.asarray(weights, np.float64)
    if net.inputs == LINEAR:
        x = task.train.features.astype(np.float64).reshape(n, net.n_inputs)
        return LeastSquares(x, task.train.values.astype(np.float64), w[: net.n_inputs]).moments()
    if net.inputs != DENSE or net.n_columns_out != net.n_hidden:
        raise InputError("moments are known of linear regression and of one hidden layer with few classes")
    x = np.ones((n, net.n_inputs + 1))
    x[:, :-1] = task.train.features.reshape(n, net.n_inputs)
    hidden = w[net.at_hidden : net.at_output].reshape(net.n_rows, net.n_hidden)[: net.n_inputs + 1]
    output = w[net.at_output : net.at_bias].reshape(net.n_rows_out, net.n_hidden)[: net.n_classes]
    bias = w[net.at_bias :][: net.n_classes]
    return network_moments(hidden, np.column_stack([output, bias]), x, task.train.targets)


def network_moments(hidden: Array, output: Array, x: Array, targets: np.ndarray) -> Moments:
    """Return the moments of a ReLU network of one hidden layer under softmax cross-entropy, exactly.

    Parameters
    ----------
    hidden : (n_inputs + 1, n_hidden) ndarray
        Weights of the hidden layer, biases last.
    output : (n_classes, n_hidden + 1) ndarray
        Weights of the output layer, biases last.
    x : (n_samples, n_inputs + 1) ndarray
        Inputs, a 1 last.
    targets : (n_samples,) ndarray of int
        Classes.

    Returns
    -------
    Moments
        Where a hidden unit is exactly 0 it counts as switched off.
    """
    n, (n_classes, n_hidden) = len(x), (output.shape[0], hidden.shape[1])
    z = x @ hidden
    on = (z > 0).astype(np.float64)
    h = np.column_stack([z * on, np.ones(n)])
    logits = h @ output.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    error = p.copy()
    error[np.arange(n), targets] -= 1
    v = output[:, :-1]
    curvature = p[:, :, None] * (np.eye(n_classes) - p[:, None, :])  # of the loss in the logits
    pulled = curvature @ v  # (n, n_classes, n_hidden)
    back = (error @ v) * on

    def pairs(left: Array, right: Array) -> Array:
        return (left[:, :, None] * right[:, None, :]).reshape(n, -1)

    gradients = np.column_stack([pairs(back, x), pairs(error, h)])
    gradient = gradients.mean(axis=0)
    hessian, cross = np.zeros((2, gradient.size, gradient.size))
    inputs, at_output = x.shape[1], n_hidden * x.shape[1]

    def of_class(c: int) -> slice:
        return slice(at_output + c * (n_hidden + 1), at_output + (c + 1) * (n_hidden + 1))

    # a sample's Hessian has the rows left_i right: one right side for each hidden unit and each class
    for j in range(n_hidden):
        right = np.column_stack([pairs((pulled[:, :, j] @ v) * on, x), pairs(pulled[:, :, j], h)])
        right[:, at_output + j :: n_hidden + 1] += error  # through the product of both layers
        rows, left = slice(j * inputs, (j + 1) * inputs), (x * on[:, j, None]).T / n
        hessian[rows], cross[rows] = left @ right, left @ (right * gradients)
    for c in range(n_classes):
        right = np.column_stack([pairs(pulled[:, c] * on, x), pairs(curvature[:, c], h)])
        rows, left = of_class(c), h.T / n
        hessian[rows], cross[rows] = left @ right, left @ (right * gradients)
    for j in range(n_hidden):  # the same product, seen from the output layer
        columns = slice(j * inputs, (j + 1) * inputs)
        back_of_unit, at = x * on[:, j, None], at_output + j
        hessian[at :: n_hidden + 1, columns] += error.T @ back_of_unit / n
        cross[at :: n_hidden + 1, columns] += error.T @ (back_of_unit * gradients[:, columns]) / n
    noise = gradients - gradient
    return Moments(gradient, hessian, noise.T @ noise / n, cross - hessian * gradient)


def component_noise(moments: Moments) -> dict[str, float]:
    """Sum Proposition 3.3 over the components: the factors of C1 .. C5 per unit of v, beside that of FB.

    With p the gradient of |g|_1, or p_j = d_j |g|_1 / |g_j| for the `rate`, K_i is the sum over j of p_j times term i
    of |g_j| E[Corr_j], over the sum of p_j d_j |g|_1. Where all components have one noise-to-signal ratio, K1 and K2
    are that ratio. Components without gradient are left out.

    Returns
    -------
    dict of str to float
        n_params (with a gradient); noise_scale = tr(Sigma)/|g|^2; median_noise, the median over components of
        Sigma_jj/g_j^2; largest_share, that of one component in the absolute summands of proposition_1; then
        proposition_1 .. proposition_5 and rate_1 .. rate_5.
    """
    there = moments.gradient != 0
    inside = np.ix_(there, there)
    g = moments.gradient[there]
    m = Moments(g, moments.hessian[inside], moments.covariance[inside], moments.cross[inside])
    terms = expected_corr_terms(m, Constants(1, 1, 1, 1, 1, 1), 1.0)
    forward = terms["FB"] * np.abs(g)  # d_j |g|_1
    kappa = np.diag(m.covariance) / g**2
    summands = np.abs(forward**2 * kappa)
    result = {
        "n_params": g.size,
        "noise_scale": float(np.trace(m.covariance) / (g @ g)),
        "median_noise": float(np.median(kappa)),
        "largest_share": float(summands.max() / summands.sum()),
    }
    for name, along in zip(WEIGHTINGS, (forward * np.abs(g), forward), strict=True):
        total = along @ terms["FB"]
        result |= {f"{name}_{i}": float(along @ terms[f"MBN{i}"] / total) for i in range(1, N_TERMS + 1)}
    return result


def noise_at_best(settings: Settings) -> tuple[dict[str, Any], dict[str, float]]:
    """Train a run; return what `training.train` does, and the noise of the components at its best point.

    Numbers are rounded to the digits of a table. Of a run that diverged the noise is None.
    """
    s = settings.resolved()
    task = training.task_of(s, np.float32)
    best = np.empty(task.network.n_entries, np.float32)
    result = training.train(s, at_best=best)
    noise: dict[str, Any] = dict.fromkeys(NOISE)
    if result["status"] != "diverged":
        noise = component_noise(moments_of(task, best))
    return rounded(result), rounded(noise)
