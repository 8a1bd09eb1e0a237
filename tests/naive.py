"""Slow twins of the jitted kernels, straight from the definitions, with nothing shared."""

import numpy as np


def corr_of_permutation(gradients, hessians, batch_size, beta1, beta2, eps_root, permutation):
    """Corr_n of Adam: explicit weights, explicit inner sums, explicit batch Hessians."""
    batches = np.asarray(permutation).reshape(-1, batch_size)
    n = len(batches) - 1
    g = [sum(gradients[r] for r in batch) / batch_size for batch in batches]
    h = [sum(hessians[r] for r in batch) / batch_size for batch in batches]

    def weight(beta, t, k):
        return beta ** (t - k) * (1 - beta) / (1 - beta ** (t + 1))

    def first(t):
        return sum(weight(beta1, t, k) * g[k] for k in range(t + 1))

    def root(t):
        return np.sqrt(sum(weight(beta2, t, k) * g[k] ** 2 for k in range(t + 1)) + eps_root)

    steps = [first(t) / root(t) for t in range(n)]
    products = [h[k] @ sum(steps[k + 1 :], steps[k]) for k in range(n)]
    by_first = sum((weight(beta1, n, k) * products[k] for k in range(n)), np.zeros_like(g[0]))
    by_root = sum((weight(beta2, n, k) * g[k] * products[k] for k in range(n)), np.zeros_like(g[0]))
    return by_first / root(n) - first(n) * by_root / root(n) ** 3


def ordered_partitions(samples, batch_size):
    """Every sequence of batches, by recursion over Python tuples."""
    samples = tuple(samples)
    if not samples:
        return [()]

    def subsets(items, size):
        if size == 0:
            return [()]
        if len(items) < size:
            return []
        with_first = [(items[0], *rest) for rest in subsets(items[1:], size - 1)]
        return with_first + subsets(items[1:], size)

    return [
        batch + rest
        for batch in subsets(samples, batch_size)
        for rest in ordered_partitions([s for s in samples if s not in batch], batch_size)
    ]


def permutation(n_samples, seed, index):
    """Permutation number `index` of a seed in unbounded integers reduced modulo 2^64."""
    golden, full = 0x9E3779B97F4A7C15, 2**64

    def mix(word):
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % full
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % full
        return word ^ (word >> 31)

    def below(limit):
        for attempt in range(100):
            word = mix(key ^ mix((golden * (limit - 1 + attempt * 2**32)) % full)) >> 32
            if (word * limit) % 2**32 >= 2**32 % limit:
                return word * limit // 2**32
        raise AssertionError("rejected a hundred times")

    key = mix((mix((seed + golden) % full) + golden * (index + 1)) % full)
    order = list(range(n_samples))
    for i in range(n_samples):
        j = below(i + 1)
        order[i], order[j] = order[j], i
    return np.array(order)
