"""The two-layer CNN on a signal and a sparse noise patch: data, network, Adam and AdamW step by step, studies."""
