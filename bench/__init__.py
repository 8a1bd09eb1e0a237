"""Benchmarks: the simulator's kernels beside NumPy, JAX and torch. Run as ``python -m bench.kernels``."""
