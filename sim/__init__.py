"""Theory, problems, sampling, kernels and exact expectations: NumPy and Numba. Imports nothing of the project but itself."""
