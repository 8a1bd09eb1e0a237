"""Theory, problems, sampling, kernels and exact expectations, in NumPy and Numba.

Imports nothing of the project but itself.
"""
