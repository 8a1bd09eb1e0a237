"""Sampling of batch orders and the compiled kernels that follow an optimiser over them."""
