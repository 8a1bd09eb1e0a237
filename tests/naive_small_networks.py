"""A run of `sim.small_networks` written out plainly in NumPy, float64: one layer and one step after the other."""

import numpy as np

from sim.monte_carlo.sampling import draw_permutations
from sim.small_networks import training
from sim.small_networks.kernels import FEWEST_EVALUATIONS


def forward(w1, c1, w2, c2, x, y):
    """Return mean loss, share of errors, hidden units and probabilities."""
    h = np.maximum(x @ w1 + c1, 0)
    o = h @ w2 + c2
    o = o - o.max(axis=1, keepdims=True)
    p = np.exp(o) / np.exp(o).sum(axis=1, keepdims=True)
    own = p[np.arange(len(y)), y]
    return -np.log(own).mean(), (o[np.arange(len(y)), y] < 0).mean(), h, p


def gradient(parameters, x, y):
    """Return the gradient of the mean loss."""
    _w1, _c1, w2, _c2 = parameters
    _, _, h, p = forward(*parameters, x, y)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    d = (p @ w2.T) * (h > 0)
    return [x.T @ d, d.sum(axis=0), h.T @ p, p.sum(axis=0)]


def train_digits(settings):
    """Train on digits by Adam; return what `sim.small_networks.training.train` does."""
    s = settings.resolved()
    task, net = training.task_of(s, np.float64), training.task_of(s, np.float64).network
    w = task.weights
    hidden = w[: net.at_output].reshape(net.n_rows, net.n_hidden)
    output = w[net.at_output : net.at_bias].reshape(net.n_rows_out, net.n_hidden)[: net.n_classes]
    parameters = [hidden[:64].copy(), hidden[64].copy(), output.T.copy(), w[net.at_bias :][:10].copy()]
    sets = [(d.features.reshape(-1, 64), d.targets) for d in (task.train, task.valid, task.test)]
    (x, y), valid, test = sets
    m, v = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    n_batches = s.n_samples // s.batch_size
    often = 4 if s.batch_size <= 16 else 2
    interval = max(8, n_batches // often)
    seed = int(training.rng_of(s, "order").integers(2**63))
    best, best_step, kept = forward(*parameters, *valid)[0], 0, [p.copy() for p in parameters]
    status, step = "unfinished", 0
    while step < s.max_epochs * n_batches:
        if step % n_batches == 0 and (n_batches > 1 or step == 0):
            order = draw_permutations(s.n_samples, 1, seed, step // n_batches)[0]
        rows = order[(step % n_batches) * s.batch_size :][: s.batch_size]
        step += 1
        for p, each, m_p, v_p in zip(parameters, gradient(parameters, x[rows], y[rows]), m, v, strict=True):
            m_p += (1 - s.beta1) * (each - m_p)
            v_p += (1 - s.beta2) * (each**2 - v_p)
            p -= s.lr * m_p / (1 - s.beta1**step) / (np.sqrt(v_p / (1 - s.beta2**step)) + s.eps)
        if step % interval:
            continue
        loss = forward(*parameters, *valid)[0]
        if loss < best:
            best, best_step, kept = loss, step, [p.copy() for p in parameters]
        elif step - best_step >= max(FEWEST_EVALUATIONS * interval, s.patience * best_step):
            status = "ok" if best_step else "diverged"
            break
    g = gradient(kept, x, y)
    flat = np.concatenate([part.ravel() for part in g])
    singles = sum(sum((part**2).sum() for part in gradient(kept, x[[i]], y[[i]])) for i in range(len(y)))
    moved = [p + s.rho * np.sign(part) for p, part in zip(kept, g, strict=True)]
    trace = singles / len(y) - flat @ flat
    return {
        "status": status,
        "n_epochs": step / n_batches,
        "epoch_of_min": best_step / n_batches,
        "min_valid_loss": best,
        "test_loss": forward(*kept, *test)[0],
        "test_error": forward(*kept, *test)[1],
        "train_loss": forward(*kept, x, y)[0],
        "gradient_l1": np.abs(flat).sum(),
        "gradient_squared": flat @ flat,
        "sharpness": forward(*moved, x, y)[0] - forward(*kept, x, y)[0],
        "trace_covariance": trace,
        "b_simple": trace / (flat @ flat),
    }
