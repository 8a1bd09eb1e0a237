"""The jobs in torch: batched over permutations or runs, eager, and with the two steps compiled."""

import numpy as np
import torch

from bench.jobs import BETA1, BETA2, EPS_ROOT, LR, Job
from bench.peer_numpy import tabulate, weights

CHUNKS = (64, 256, 1024)


def draw(n_samples: int, n_orders: int, seed: int, first: int) -> np.ndarray:
    """Draw orders (n_orders, n_samples) by torch alone, which sorts random numbers."""
    generator = torch.Generator().manual_seed(seed + (first << 16))
    return torch.rand(n_orders, n_samples, generator=generator).argsort(dim=1).numpy()


def least_squares(job: Job, features: np.ndarray, residuals: np.ndarray):
    """Functions of batches (P, b): their gradients (P, d), and b times their Hessians times u (P, d)."""
    rows_of, shares = torch.from_numpy(features), torch.from_numpy(residuals / job.batch_size)

    def product(batch, u):
        rows = rows_of[batch]
        return torch.bmm(torch.bmm(rows, u[:, :, None]).transpose(1, 2), rows)[:, 0]

    return lambda batch: torch.bmm(shares[batch][:, None], rows_of[batch])[:, 0], product


def network(job: Job, filters: np.ndarray, data):
    """Do what `least_squares` does for the two-layer network."""
    rows, patches, slopes, bends = map(torch.from_numpy, tabulate(filters, data))
    rows = rows / job.batch_size
    n_pairs, n_filters, length = 2 * job.batch_size, slopes.shape[2], patches.shape[2]

    def product(batch, u):
        x = patches[batch].view(-1, n_pairs, length)
        a, c = (table[batch].view(-1, job.batch_size, 2 * n_filters) for table in (slopes, bends))
        moved = torch.bmm(x, u.view(-1, n_filters, length).transpose(1, 2)).view(a.shape)
        factors = a * (a * moved).sum(2, keepdim=True) + c * moved
        return torch.bmm(factors.view(-1, n_pairs, n_filters).transpose(1, 2), x).view(u.shape)

    return lambda batch: rows[batch].sum(1), product


def make_corr(job: Job, *problem, compiled: bool = False):
    """Make the function from orders (P, n_samples) to Corr_n (P, d)."""
    m, b, n = job.n_batches, job.batch_size, job.n_batches - 1
    scale1, scale2 = (torch.from_numpy(scale) for scale in weights(m))
    lags = torch.arange(n, -1, -1, dtype=torch.float64)
    mu, nu = scale1[n] * BETA1**lags / b, scale2[n] * BETA2**lags / b
    gradient, product_with = (network if job.n_filters else least_squares)(job, *problem)

    def forward(batch, exp_avg, exp_avg_sq, first, second):
        g = gradient(batch)
        exp_avg, exp_avg_sq = BETA1 * exp_avg + g, BETA2 * exp_avg_sq + g * g
        return g, exp_avg, exp_avg_sq, exp_avg * first / torch.sqrt(exp_avg_sq * second + EPS_ROOT)

    def backward(batch, u, by_first, by_root, g, step, mu_k, nu_k):
        u = u + step
        product = product_with(batch, u)
        return u, by_first + mu_k * product, by_root + nu_k * g * product

    if compiled:
        forward, backward = torch.compile(forward, dynamic=False), torch.compile(backward, dynamic=False)

    @torch.inference_mode()
    def corr(orders):
        batches = torch.from_numpy(orders).reshape(len(orders), m, b).transpose(0, 1).contiguous()
        exp_avg, exp_avg_sq, u, by_first, by_root = torch.zeros((5, len(orders), job.d), dtype=torch.float64)
        gs, steps = [], []
        for t in range(m):
            g, exp_avg, exp_avg_sq, step = forward(batches[t], exp_avg, exp_avg_sq, scale1[t], scale2[t])
            gs.append(g)
            steps.append(step)
        for k in range(n - 1, -1, -1):
            u, by_first, by_root = backward(batches[k], u, by_first, by_root, gs[k], steps[k], mu[k], nu[k])
        root = torch.sqrt(exp_avg_sq * scale2[n] + EPS_ROOT)
        return (by_first / root - exp_avg * scale1[n] * by_root / root**3).numpy()

    return corr


def make_training(job: Job, features: np.ndarray, targets: np.ndarray, compiled: bool = False):
    """Make the function from orders (n_runs, n_epochs, n_samples) to the parameters (n_runs, d)."""
    scale1, scale2 = (torch.from_numpy(scale) for scale in weights(job.n_epochs * job.n_batches))
    rows_of, targets_of = torch.from_numpy(features), torch.from_numpy(targets)

    def step(batch, theta, exp_avg, exp_avg_sq, first, second):
        rows = rows_of[batch]
        errors = torch.bmm(rows, theta[:, :, None])[:, :, 0] - targets_of[batch]
        g = torch.bmm(errors[:, None], rows)[:, 0] / job.batch_size
        exp_avg, exp_avg_sq = BETA1 * exp_avg + g, BETA2 * exp_avg_sq + g * g
        theta = theta - LR * exp_avg * first / torch.sqrt(exp_avg_sq * second + EPS_ROOT)
        return theta, exp_avg, exp_avg_sq

    if compiled:
        step = torch.compile(step, dynamic=False)

    @torch.inference_mode()
    def train(orders):
        batches = (
            torch.from_numpy(orders).reshape(len(orders), -1, job.batch_size).transpose(0, 1).contiguous()
        )
        state = tuple(torch.zeros((3, len(orders), job.d), dtype=torch.float64))
        for t, batch in enumerate(batches):
            state = step(batch, *state, scale1[t], scale2[t])
        return state[0].numpy()

    return train
