r"""The loops behind `sim.memory.memoryless`, in Numba.

At every step the memoryless iteration needs the batches of all past steps at the current theta. Few batches
are distinct: gradients, psi_a and psi_a' are evaluated once for each distinct batch, the sums over past steps touch
vectors only, and the weighted vectors are gathered by batch before they meet a Hessian.

`members` (n_distinct, n_micro, size) lists the samples of each micro-batch of each distinct batch, one where the rule
is of whole batches, `window` (n_lags,) the batches of the last n_lags steps up to t, `rule` is a
`sim.monte_carlo.compiled_rule.RuleTables`. `evaluate`, `write_psi`, `update` and `partials` are the functions of its
`Formulas`, `gradient` and `derivatives` those of a `sim.losses.landscapes.Landscape`, all as pointers
(`compiled_rule.pointer`).
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def _add(value, step, lost):
    """Return value + step, and what rounding took from it, to be handed back: rounding does not pile up."""
    step -= lost
    total = value + step
    return total, (total - value) - step


@njit(cache=True, nogil=True, error_model="numpy")
def _means(values, n_micro):
    """Mean of each `n_micro` of (n, d) in turn; the array itself where that is 1."""
    if n_micro == 1:
        return values
    means = np.zeros((len(values) // n_micro, values.shape[1]))
    for i in range(len(values)):
        for j in range(values.shape[1]):
            means[i // n_micro, j] += values[i, j] / n_micro
    return means


@njit(cache=True, nogil=True, error_model="numpy")
def _batch_gradients(gradients, members):
    """Mean gradient of every micro-batch of the distinct batches, (n_distinct * n_micro, d)."""
    share = 1 / members.shape[1]
    means = np.zeros((len(members), gradients.shape[1]))
    for c in range(len(members)):
        for r in members[c]:
            for j in range(gradients.shape[1]):
                means[c, j] += share * gradients[r, j]
    return means


@njit(cache=True, nogil=True, error_model="numpy")
def _weighted_sums(updates, window, n_distinct, rule, t):
    """Sum w^a_{t,k} u_{t,k} over the steps k < t of each distinct batch, (n_averages, n_distinct, d)."""
    n_averages, d = len(rule.decay), updates.shape[1]
    sums, u, weights = np.zeros((n_averages, n_distinct, d)), np.zeros(d), rule.past[:, t].copy()
    for i in range(len(window) - 2, -1, -1):
        for j in range(d):
            u[j] += updates[i, j]
        for a in range(n_averages):
            for j in range(d):
                sums[a, window[i], j] += weights[a] * u[j]
            weights[a] *= rule.decay[a]
    return sums


@njit(cache=True, nogil=True, error_model="numpy")
def _curvature_sum(hessians, members, sums, slopes, of_gradient):
    """Mean over their micro-batches, and sum over distinct batches, of psi' * (hess) sums; psi' is 1 if `of_gradient`.

    `members` (n_distinct * n_micro, size) are of micro-batches, `sums` (n_distinct, d) of batches, `slopes` of either.
    """
    n_samples, d = hessians.shape[:2]
    n_micro, per_slope = len(members) // len(sums), len(members) // len(slopes)
    share, total, curved = 1 / (n_micro * members.shape[1]), np.zeros(d), np.empty(d)
    if of_gradient:  # then each sample's Hessian is needed once
        by_sample = np.zeros((n_samples, d))
        for c in range(len(members)):
            batch = sums[c // n_micro]
            for r in members[c]:
                for i in range(d):
                    by_sample[r, i] += share * batch[i]
        for r in range(n_samples):
            for i in range(d):
                for j in range(d):
                    total[j] += hessians[r, i, j] * by_sample[r, i]
        return total
    for c in range(len(members)):
        curved[:] = 0.0
        batch = sums[c // n_micro]
        for r in members[c]:
            for i in range(d):
                weight = share * batch[i]
                for j in range(d):
                    curved[j] += hessians[r, i, j] * weight
        for j in range(d):
            total[j] += slopes[c // per_slope, j] * curved[j]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def run_with_memory(
    gradient, evaluate, write_psi, update, arrays, batches, lr, rule, weight_decay, trajectory
):
    """Fill trajectory[1:] (n_steps, n_params) from trajectory[0] by the algorithm itself."""
    n_averages, d, n_micro = len(rule.decay), trajectory.shape[1], batches.shape[1]
    out, micro, batch = np.empty(d), np.empty((n_micro, d)), np.empty((1, d))
    values, slopes = np.empty((n_averages, n_micro, d)), np.empty((n_averages, n_micro, d))
    psi, bends = np.empty((n_averages, 1, d)), np.empty((n_averages, 1, d))
    z, seen, lost = np.empty((n_averages, d)), np.zeros((n_averages, d)), np.zeros(d)
    for t in range(len(batches)):
        theta = trajectory[t]
        micro[:], batch[:] = 0.0, 0.0
        for i in range(n_micro):
            for r in batches[t, i]:
                gradient(theta, arrays, r, micro[i])
            for j in range(d):
                micro[i, j] /= batches.shape[2]
                batch[0, j] += micro[i, j] / n_micro
        evaluate(write_psi, micro, batch, rule.settings, rule.of_micro_batches, values, slopes, psi, bends)
        for a in range(n_averages):
            for j in range(d):
                z[a, j] = rule.past[a, t] * seen[a, j] + rule.current[a, t] * psi[a, 0, j]
                seen[a, j] = rule.decay[a] * seen[a, j] + psi[a, 0, j]
        update(z, rule.settings, out)
        for j in range(d):
            step = -lr * (out[j] + weight_decay * theta[j])
            trajectory[t + 1, j], lost[j] = _add(theta[j], step, lost[j])


@njit(cache=True, nogil=True, error_model="numpy")
def main_and_corr_at(
    evaluate, write_psi, update, partials, gradients, hessians, members, window, t, rule, away, with_corr
):
    """Main_t and Corr_t (0 unless `with_corr`) from per-sample gradients and Hessians at one theta.

    `away` (n_params,) is weight decay times theta.
    """
    (n_distinct, n_micro, size), n_lags = members.shape, len(window)
    n_averages, d = len(rule.decay), gradients.shape[1]
    members = members.reshape((n_distinct * n_micro, size))
    values, slopes = np.empty((n_averages, len(members), d)), np.empty((n_averages, len(members), d))
    psi, bends = np.empty((n_averages, n_distinct, d)), np.empty((n_averages, n_distinct, d))
    micro = _batch_gradients(gradients, members)
    batch = _means(micro, n_micro)
    evaluate(write_psi, micro, batch, rule.settings, rule.of_micro_batches, values, slopes, psi, bends)
    first = 0 if with_corr else n_lags - 1  # of the steps whose updates are wanted
    z = np.empty((n_averages, n_lags - first, d))
    for a in range(n_averages):
        seen = np.zeros(d)
        for i in range(n_lags):
            step, value = t + 1 - n_lags + i, psi[a, window[i]]
            if i >= first:
                for j in range(d):
                    z[a, i - first, j] = rule.past[a, step] * seen[j] + rule.current[a, step] * value[j]
            for j in range(d):
                seen[j] = rule.decay[a] * seen[j] + value[j]
    updates = np.empty((n_lags - first, d))
    update(z.reshape((n_averages, updates.size)), rule.settings, updates.reshape(updates.size))
    for i in range(len(updates)):
        for j in range(d):
            updates[i, j] += away[j]
    main, corr = updates[-1].copy(), np.zeros(d)
    if with_corr:
        sums = _weighted_sums(updates, window, n_distinct, rule, t)
        ends, z_end = np.empty((n_averages, d)), z[:, -1].copy()
        partials(z_end, rule.settings, ends)
        for a in range(n_averages):
            slope = slopes[a] if n_micro > 1 and rule.of_micro_batches[a] else bends[a]
            curved = _curvature_sum(hessians, members, sums[a], slope, rule.of_gradient[a])
            for j in range(d):
                corr[j] += ends[a, j] * curved[j]
    return main, corr


@njit(cache=True, nogil=True, error_model="numpy")
def run_without_memory(
    derivatives,
    evaluate,
    write_psi,
    update,
    partials,
    arrays,
    n_samples,
    members,
    ids,
    n_lags,
    lr,
    correction,
    rule,
    weight_decay,
    trajectory,
):
    """Fill trajectory[1:] from trajectory[0] by the memoryless iteration; step t takes batch ids[t]."""
    d = trajectory.shape[1]
    gradients, hessians, lost = np.empty((n_samples, d)), np.empty((n_samples, d, d)), np.zeros(d)
    for t in range(len(ids)):
        theta = trajectory[t]
        for r in range(n_samples):
            derivatives(theta, arrays, r, gradients[r], hessians[r])
        window = ids[max(0, t + 1 - n_lags) : t + 1]
        away = weight_decay * theta
        main, corr = main_and_corr_at(
            evaluate,
            write_psi,
            update,
            partials,
            gradients,
            hessians,
            members,
            window,
            t,
            rule,
            away,
            correction != 0,
        )
        for j in range(d):
            step = -lr * main[j] - correction * lr**2 * corr[j]
            trajectory[t + 1, j], lost[j] = _add(theta[j], step, lost[j])
