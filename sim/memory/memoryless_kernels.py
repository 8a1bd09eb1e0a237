r"""The loops behind `sim.memory.memoryless`, in Numba.

At every step the memoryless iteration needs the batches of all past steps at the current theta. Few batches
are distinct: gradients and Hessians are averaged once for each distinct batch, the sums over past steps touch
vectors only, and the weighted vectors are gathered by batch before they meet a Hessian.

`members` (n_distinct, batch_size) lists the samples of each distinct batch, `window` (n_lags,) the batches of
the last n_lags steps up to t, `settings` are (beta1, beta2, eps_root, adam). SGD with momentum is Adam
without gains, bias corrections and root.
"""

import numpy as np
from numba import njit


# Not cached on disk: the jitted functions that they are given belong to other modules.
@njit(nogil=True, error_model="numpy")
def run_with_memory(derivatives, arrays, batches, lr, settings, trajectory):
    """Fill trajectory[1:] (n_steps, n_params) from trajectory[0] by the algorithm itself."""
    beta1, beta2, eps_root, adam = settings
    d = trajectory.shape[1]
    sample, hessian, gradient = np.empty(d), np.empty((d, d)), np.empty(d)
    exp_avg, exp_avg_sq, lost = np.zeros(d), np.zeros(d), np.zeros(d)
    for t in range(len(batches)):
        theta = trajectory[t]
        gradient[:] = 0.0
        for r in batches[t]:
            derivatives(theta, arrays, r, sample, hessian)
            for j in range(d):
                gradient[j] += sample[j] / batches.shape[1]
        bias1, bias2 = _one_minus_power(beta1, t + 1), _one_minus_power(beta2, t + 1)
        for j in range(d):
            if adam:
                exp_avg[j] = beta1 * exp_avg[j] + (1 - beta1) * gradient[j]
                exp_avg_sq[j] = beta2 * exp_avg_sq[j] + (1 - beta2) * gradient[j] ** 2
                update = exp_avg[j] / bias1 / np.sqrt(exp_avg_sq[j] / bias2 + eps_root)
            else:
                exp_avg[j] = beta1 * exp_avg[j] + gradient[j]
                update = exp_avg[j]
            trajectory[t + 1, j], lost[j] = _add(theta[j], -lr * update, lost[j])


@njit(nogil=True, error_model="numpy")
def run_without_memory(
    derivatives, arrays, n_samples, members, ids, n_lags, lr, correction, settings, trajectory
):
    """Fill trajectory[1:] from trajectory[0] by the memoryless iteration; step t takes batch ids[t]."""
    d = trajectory.shape[1]
    gradients, hessians, lost = np.empty((n_samples, d)), np.empty((n_samples, d, d)), np.zeros(d)
    for t in range(len(ids)):
        theta = trajectory[t]
        for r in range(n_samples):
            derivatives(theta, arrays, r, gradients[r], hessians[r])
        window = ids[max(0, t + 1 - n_lags) : t + 1]
        main, corr = main_and_corr_at(gradients, hessians, members, window, t, settings, correction != 0)
        for j in range(d):
            step = -lr * main[j] - correction * lr**2 * corr[j]
            trajectory[t + 1, j], lost[j] = _add(theta[j], step, lost[j])


@njit(cache=True, nogil=True, error_model="numpy")
def _add(value, step, lost):
    """Return value + step, and what rounding took from it, to be handed back: rounding does not pile up."""
    step -= lost
    total = value + step
    return total, (total - value) - step


@njit(cache=True, nogil=True, error_model="numpy")
def main_and_corr_at(gradients, hessians, members, window, t, settings, with_corr):
    """Main_t and Corr_t (0 unless `with_corr`) from per-sample gradients and Hessians at one theta."""
    beta1, beta2, _, adam = settings
    updates, squares = _updates(gradients, members, window, t, settings, with_corr)
    main, corr = updates[-1].copy(), np.zeros(gradients.shape[1])
    if with_corr:
        mu, nu = (_newest_weight(beta1, t), _newest_weight(beta2, t)) if adam else (1.0, 0.0)
        by_mu, by_nu = _weighted_sums(updates, window, len(members), beta1, beta2, mu, nu)
        first, second = _curvature_sums(gradients, hessians, members, by_mu, by_nu)  # L_t, P_t
        for j in range(len(corr)):
            if adam:
                corr[j] = first[j] / np.sqrt(squares[-1, j]) - main[j] * second[j] / squares[-1, j]
            else:
                corr[j] = first[j]
    return main, corr


@njit(cache=True, nogil=True, error_model="numpy")
def _newest_weight(beta, t):
    """Bias-corrected weight of step t at step t."""
    return (1 - beta) / _one_minus_power(beta, t + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _one_minus_power(beta, n):
    """As `theory.one_minus_power`, for n >= 1."""
    return -np.expm1(n * np.log1p(beta - 1)) if beta - 1 > -1 else 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _updates(gradients, members, window, t, settings, every_step):
    """F_l and R_l^2 of the steps l of the window, (n_lags, d) each; without `every_step` F_t alone is right."""
    beta1, beta2, eps_root, adam = settings
    d, n_lags = gradients.shape[1], len(window)
    g = _batch_gradients(gradients, members)
    gain1, gain2 = (1 - beta1, 1 - beta2) if adam else (1.0, 0.0)
    bias1, bias2 = 1.0, 1.0
    exp_avg, exp_avg_sq = np.zeros(d), np.zeros(d)
    updates, squares = np.empty((n_lags, d)), np.empty((n_lags, d))
    for i in range(n_lags):
        if adam:
            n_steps = t + 2 - n_lags + i
            bias1, bias2 = 1 / _one_minus_power(beta1, n_steps), 1 / _one_minus_power(beta2, n_steps)
        for j in range(d):
            gradient = g[window[i], j]
            exp_avg[j] = beta1 * exp_avg[j] + gain1 * gradient
            exp_avg_sq[j] = beta2 * exp_avg_sq[j] + gain2 * gradient**2
            updates[i, j] = bias1 * exp_avg[j]
            squares[i, j] = bias2 * exp_avg_sq[j] + eps_root
    if adam:
        flat, flat_squares = updates.reshape(-1), squares.reshape(-1)  # one long loop fills vector registers
        for i in range(0 if every_step else (n_lags - 1) * d, n_lags * d):
            flat[i] /= np.sqrt(flat_squares[i])
    return updates, squares


@njit(cache=True, nogil=True, error_model="numpy")
def _batch_gradients(gradients, members):
    """Mean gradient of every distinct batch, (n_distinct, d)."""
    share = 1 / members.shape[1]
    means = np.zeros((len(members), gradients.shape[1]))
    for c in range(len(members)):
        for r in members[c]:
            for j in range(gradients.shape[1]):
                means[c, j] += share * gradients[r, j]
    return means


@njit(cache=True, nogil=True, error_model="numpy")
def _weighted_sums(updates, window, n_distinct, beta1, beta2, mu, nu):
    """Sums of mu_{t,k} u_{t,k} and nu_{t,k} u_{t,k} over the steps k < t of each distinct batch."""
    d = updates.shape[1]
    by_mu, by_nu, u = np.zeros((n_distinct, d)), np.zeros((n_distinct, d)), np.zeros(d)
    for i in range(len(window) - 2, -1, -1):
        mu *= beta1
        nu *= beta2
        for j in range(d):
            u[j] += updates[i, j]
            by_mu[window[i], j] += mu * u[j]
            by_nu[window[i], j] += nu * u[j]
    return by_mu, by_nu


@njit(cache=True, nogil=True, error_model="numpy")
def _curvature_sums(gradients, hessians, members, by_mu, by_nu):
    """Sums over distinct batches c of (hess L_c) by_mu[c] and of grad L_c * (hess L_c) by_nu[c]."""
    n_samples, d = gradients.shape
    g, share = _batch_gradients(gradients, members), 1 / members.shape[1]
    by_sample, first, second, curved = np.zeros((n_samples, d)), np.zeros(d), np.zeros(d), np.empty(d)
    for c in range(len(members)):
        curved[:] = 0.0
        for r in members[c]:
            for i in range(d):
                by_sample[r, i] += share * by_mu[c, i]
                weight = share * by_nu[c, i]
                for j in range(d):
                    curved[j] += hessians[r, i, j] * weight
        for j in range(d):
            second[j] += g[c, j] * curved[j]
    for r in range(n_samples):
        for i in range(d):
            for j in range(d):
                first[j] += hessians[r, i, j] * by_sample[r, i]
    return first, second
