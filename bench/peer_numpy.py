"""The jobs in NumPy, vectorised over a chunk of permutations or runs; two chunks at a time in threads."""

import numpy as np

from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, Job

CHUNKS = (32, 64, 256)


def weights(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors that turn sum_k beta^(t-k) x_k into the bias-corrected mean, for beta1 and beta2."""
    t = np.arange(n_steps) + 1.0
    return (1 - BETA1) / (1 - BETA1**t), (1 - BETA2) / (1 - BETA2**t)


def make_corr(job: Job, features: np.ndarray, residuals: np.ndarray):
    """Make the function from orders (P, n_samples) to Corr_n (P, d)."""
    m, b, n = job.n_batches, job.batch_size, job.n_batches - 1
    scale1, scale2 = weights(m)
    mu, nu = scale1[n] * BETA1 ** np.arange(n, -1, -1) / b, scale2[n] * BETA2 ** np.arange(n, -1, -1) / b
    shares = residuals / b

    def corr(orders):
        batches = orders.reshape(len(orders), m, b)
        gradients, steps = np.empty((2, m, len(orders), job.d))
        exp_avg, exp_avg_sq = np.zeros((2, len(orders), job.d))
        for t in range(m):
            rows, parts = features.take(batches[:, t], axis=0), shares.take(batches[:, t])
            g = np.matmul(parts[:, None], rows, out=gradients[t][:, None])[:, 0]
            exp_avg *= BETA1
            exp_avg += g
            exp_avg_sq *= BETA2
            exp_avg_sq += g * g
            root = np.sqrt(exp_avg_sq * scale2[t] + EPS_ROOT)
            np.divide(exp_avg * scale1[t], root, out=steps[t])
        u, by_first, by_root = np.zeros((3, len(orders), job.d))
        for k in range(n - 1, -1, -1):
            u += steps[k]
            rows = features.take(batches[:, k], axis=0)
            slopes = rows @ u[:, :, None]
            product = (slopes.transpose(0, 2, 1) @ rows)[:, 0]
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
