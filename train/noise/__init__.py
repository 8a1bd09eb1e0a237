"""Gradient noise: per-sample gradients, and the estimator from two batch sizes."""
