"""The jobs in NumPy, vectorised over a chunk of permutations or runs; two chunks at a time in threads."""

import numpy as np

from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, Job

CHUNKS = (32, 64, 256)


def draw(n_samples: int, n_orders: int, seed: int, first: int) -> np.ndarray:
    """Draw orders (n_orders, n_samples) by NumPy alone."""
    orders = np.tile(np.arange(n_samples), (n_orders, 1))
    return np.random.default_rng([seed, first]).permuted(orders, axis=1, out=orders)


def weights(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors that turn sum_k beta^(t-k) x_k into the bias-corrected mean, for beta1 and beta2."""
    t = np.arange(n_steps) + 1.0
    return (1 - BETA1) / (1 - BETA1**t), (1 - BETA2) / (1 - BETA2**t)


def tabulate(weights: np.ndarray, data) -> tuple[np.ndarray, ...]:
    """Per-sample derivatives of the two-layer network with q = 3, at fixed weights.

    Returns gradients (N, d), patches (N, 2, length), and slopes a and bends c (N, 2, F): the Hessian of a sample's
    loss maps u to sum_p x_p [a_fp (sum of a_fp <u_f, x_p>) + c_fp <u_f, x_p>].
    """
    from sim.losses import cnn

    z = np.maximum(data.patches @ weights.reshape(-1, weights.shape[2]).T, 0)
    signs = (data.labels[:, None] * np.repeat([1.0, -1.0], weights.shape[1]))[:, None]
    doubt = 1 / (1 + np.exp(cnn.margins(weights, data)))[:, None, None]
    slopes, bends = np.sqrt(doubt * (1 - doubt)) * signs * 3 * z**2, -doubt * signs * 6 * z
    return cnn.gradients(weights, data).reshape(len(z), -1), data.patches, slopes, bends


def least_squares(job: Job, features: np.ndarray, residuals: np.ndarray):
    """Functions of batches (P, b): write their gradients (P, d) to `out`; b times their Hessians times u (P, d)."""
    shares = residuals / job.batch_size

    def gradient(batch, out):
        np.matmul(shares.take(batch)[:, None], features.take(batch, axis=0), out=out[:, None])

    def product(batch, u):
        rows = features.take(batch, axis=0)
        slopes = rows @ u[:, :, None]
        return (slopes.transpose(0, 2, 1) @ rows)[:, 0]

    return gradient, product


def network(job: Job, weights: np.ndarray, data):
    """Do what `least_squares` does for the two-layer network."""
    rows, patches, slopes, bends = tabulate(weights, data)
    rows = rows / job.batch_size
    n_pairs, n_filters, length = 2 * job.batch_size, slopes.shape[2], patches.shape[2]

    def gradient(batch, out):
        np.sum(rows.take(batch, axis=0), axis=1, out=out)

    def product(batch, u):
        x = patches.take(batch, axis=0).reshape(-1, n_pairs, length)
        moved = x @ u.reshape(-1, n_filters, length).transpose(0, 2, 1)
        moved = moved.reshape(*batch.shape, 2 * n_filters)
        a, factors = (table.take(batch, axis=0).reshape(moved.shape) for table in (slopes, bends))
        factors *= moved
        a *= np.einsum("pif,pif->pi", a, moved)[:, :, None]
        factors += a
        return (factors.reshape(-1, n_pairs, n_filters).transpose(0, 2, 1) @ x).reshape(u.shape)

    return gradient, product


def make_corr(job: Job, *problem):
    """Make the function from orders (P, n_samples) to Corr_n (P, d)."""
    m, b, n = job.n_batches, job.batch_size, job.n_batches - 1
    scale1, scale2 = weights(m)
    mu, nu = scale1[n] * BETA1 ** np.arange(n, -1, -1) / b, scale2[n] * BETA2 ** np.arange(n, -1, -1) / b
    gradient, product_with = (network if job.n_filters else least_squares)(job, *problem)

    def corr(orders):
        batches = orders.reshape(len(orders), m, b)
        gradients, steps = np.empty((2, m, len(orders), job.d))
        exp_avg, exp_avg_sq = np.zeros((2, len(orders), job.d))
        for t in range(m):
            g = gradients[t]
            gradient(batches[:, t], g)
            exp_avg *= BETA1
            exp_avg += g
            exp_avg_sq *= BETA2
            exp_avg_sq += g * g
            root = np.sqrt(exp_avg_sq * scale2[t] + EPS_ROOT)
            np.divide(exp_avg * scale1[t], root, out=steps[t])
        u, by_first, by_root = np.zeros((3, len(orders), job.d))
        for k in range(n - 1, -1, -1):
            u += steps[k]
            product = product_with(batches[:, k], u)
            by_first += mu[k] * product
            product *= gradients[k]
            product *= nu[k]
            by_root += product
        return by_first / root - exp_avg * scale1[n] * by_root / root**3

    return corr


def make_training(job: Job, features: np.ndarray, targets: np.ndarray):
    """Make the function from orders (n_runs, n_epochs, n_samples) to the parameters (n_runs, d)."""
    b = job.batch_size
    scale1, scale2 = weights(job.n_epochs * job.n_batches)

    def train(orders):
        batches = orders.reshape(len(orders), -1, b)
        theta, exp_avg, exp_avg_sq = np.zeros((3, len(orders), job.d))
        for t in range(batches.shape[1]):
            rows = features.take(batches[:, t], axis=0)
            errors = (rows @ theta[:, :, None])[:, :, 0] - targets.take(batches[:, t])
            g = (errors[:, None] @ rows)[:, 0] / b
            exp_avg *= BETA1
            exp_avg += g
            exp_avg_sq *= BETA2
            exp_avg_sq += g * g
            theta -= LR * scale1[t] * exp_avg / np.sqrt(exp_avg_sq * scale2[t] + EPS_ROOT)
        return theta

    return train
