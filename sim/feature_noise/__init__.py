"""The two-layer CNN on a signal and a sparse noise patch: data, network, optimisers step by step, studies."""
