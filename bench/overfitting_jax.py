"""The jobs of `bench.overfitting` in JAX: a scan over the steps of a run, vmap over runs with their betas, jit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bench.overfitting_jobs import EPS, Job, Runs, Weights


@partial(jax.jit, static_argnums=(0, 1))
def _draw(job: Job, n_runs: int, seed: int) -> jax.Array:
    keys = jax.random.split(jax.random.key(seed), n_runs * job.n_epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, job.n_samples))(keys)
    return orders.reshape(n_runs, job.n_steps, job.batch_size)


def draw(job: Job, n_runs: int, seed: int) -> jax.Array | None:
    """Draw orders (n_runs, n_steps, batch_size) by JAX alone."""
    return None if job.full else _draw(job, n_runs, seed)


def make(job: Job):
    """Make the function that trains a block of runs, given orders as `draw` returns them; it returns their weights."""
    inputs, classes = map(jnp.asarray, job.data())

    def loss(w, x, targets):
        x = w["embedding"][x].reshape(len(x), -1) if job.n_words else x
        scores = jax.nn.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]
        own = jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=1) - own).mean()

    def train_one(w, order, gain1, gain2, step_sizes, eps):
        def step(state, now):
            w, exp_avg, exp_avg_sq = state
            batch, step_size, eps = now
            pair = (inputs, classes) if job.full else (inputs[batch], classes[batch])
            g = jax.grad(loss)(w, *pair)
            exp_avg = jax.tree.map(lambda m, g: m + gain1 * (g - m), exp_avg, g)
            exp_avg_sq = jax.tree.map(lambda v, g: v + gain2 * (g * g - v), exp_avg_sq, g)
            w = jax.tree.map(lambda w, m, v: w - step_size * m / (jnp.sqrt(v) + eps), w, exp_avg, exp_avg_sq)
            return (w, exp_avg, exp_avg_sq), None

        zero = jax.tree.map(jnp.zeros_like, w)
        return jax.lax.scan(step, (w, zero, zero), (order, step_sizes, eps))[0][0]

    compiled = jax.jit(jax.vmap(train_one))

    def train(runs: Runs, orders: jax.Array | None, n_steps: int = job.n_steps) -> Weights:
        t = np.arange(1, n_steps + 1)
        beta1, beta2 = (beta.astype(np.float64)[:, None] for beta in (runs.beta1, runs.beta2))
        root = np.sqrt(1 - beta2**t)
        step_sizes = (runs.lr[:, None] * root / (1 - beta1**t)).astype(np.float32)
        gains = ((1 - beta[:, 0]).astype(np.float32) for beta in (beta1, beta2))
        batches = None if orders is None else orders[:, :n_steps]
        trained = compiled(runs.weights, batches, *gains, step_sizes, (EPS * root).astype(np.float32))
        return {name: np.asarray(array) for name, array in trained.items()}

    return train
