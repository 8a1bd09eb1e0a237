"""The jobs in JAX: written for one permutation or run, then vmap and jit, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, Job
from bench.peer_numpy import tabulate, weights

jax.config.update("jax_enable_x64", True)
CHUNKS = (32, 128, 256)


@partial(jax.jit, static_argnums=(0, 1))
def draw(n_samples: int, n_orders: int, seed: int, first: int) -> jax.Array:
    """Draw orders (n_orders, n_samples) by JAX alone."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), first), n_orders)
    return jax.vmap(lambda key: jax.random.permutation(key, n_samples))(keys)


def least_squares(job: Job, features: np.ndarray, residuals: np.ndarray):
    """Functions of a batch (b,): its gradient (d,), and b times its Hessian times u (d,)."""
    rows_of, shares = jnp.asarray(features), jnp.asarray(residuals / job.batch_size)

    def product(batch, u):
        rows = rows_of[batch]
        return (rows @ u) @ rows

    return lambda batch: shares[batch] @ rows_of[batch], product


def network(job: Job, filters: np.ndarray, data):
    """Do what `least_squares` does for the two-layer network."""
    rows, patches, slopes, bends = map(jnp.asarray, tabulate(filters, data))
    rows = rows / job.batch_size

    def product(batch, u):
        x, a = patches[batch], slopes[batch]
        moved = jnp.einsum("ipl,fl->ipf", x, u.reshape(-1, x.shape[2]))
        factors = a * (a * moved).sum((1, 2), keepdims=True) + bends[batch] * moved
        return jnp.einsum("ipf,ipl->fl", factors, x).ravel()

    return lambda batch: rows[batch].sum(0), product


def make_corr(job: Job, *problem):
    """Make the function from orders (P, n_samples) to Corr_n (P, d)."""
    m, b, n = job.n_batches, job.batch_size, job.n_batches - 1
    scale1, scale2 = map(jnp.asarray, weights(m))
    mu, nu = scale1[n] * BETA1 ** jnp.arange(n, -1, -1) / b, scale2[n] * BETA2 ** jnp.arange(n, -1, -1) / b
    gradient, product_with = (network if job.n_filters else least_squares)(job, *problem)
    zero = jnp.zeros(job.d)

    def corr(order):
        def forward(state, inputs):
            exp_avg, exp_avg_sq = state
            batch, first, second = inputs
            g = gradient(batch)
            exp_avg, exp_avg_sq = BETA1 * exp_avg + g, BETA2 * exp_avg_sq + g * g
            return (exp_avg, exp_avg_sq), (g, exp_avg * first / jnp.sqrt(exp_avg_sq * second + EPS_ROOT))

        def backward(state, inputs):
            u, by_first, by_root = state
            batch, step, g, mu_k, nu_k = inputs
            u = u + step
            product = product_with(batch, u)
            return (u, by_first + mu_k * product, by_root + nu_k * g * product), None

        batches = order.reshape(m, b)
        (exp_avg, exp_avg_sq), (gs, steps) = jax.lax.scan(forward, (zero, zero), (batches, scale1, scale2))
        inputs = (batches[:n], steps[:n], gs[:n], mu[:n], nu[:n])
        (_, by_first, by_root), _ = jax.lax.scan(backward, (zero, zero, zero), inputs, reverse=True)
        root = jnp.sqrt(exp_avg_sq * scale2[n] + EPS_ROOT)
        return by_first / root - exp_avg * scale1[n] * by_root / root**3

    compiled = jax.jit(jax.vmap(corr))
    return lambda orders: np.array(compiled(orders))


def make_training(job: Job, features: np.ndarray, targets: np.ndarray):
    """Make the function from orders (n_runs, n_epochs, n_samples) to the parameters (n_runs, d)."""
    scale1, scale2 = map(jnp.asarray, weights(job.n_epochs * job.n_batches))
    rows_of, targets_of, zero = jnp.asarray(features), jnp.asarray(targets), jnp.zeros(job.d)

    def train(orders):
        def step(state, inputs):
            theta, exp_avg, exp_avg_sq = state
            batch, first, second = inputs
            rows = rows_of[batch]
            g = (rows @ theta - targets_of[batch]) @ rows / job.batch_size
            exp_avg, exp_avg_sq = BETA1 * exp_avg + g, BETA2 * exp_avg_sq + g * g
            theta = theta - LR * exp_avg * first / jnp.sqrt(exp_avg_sq * second + EPS_ROOT)
            return (theta, exp_avg, exp_avg_sq), None

        inputs = (orders.reshape(-1, job.batch_size), scale1, scale2)
        return jax.lax.scan(step, (zero, zero, zero), inputs)[0][0]

    compiled = jax.jit(jax.vmap(train))
    return lambda orders: np.array(compiled(orders))
