"""The gradient noise scale: estimated from two batch sizes, or computed from the gradient of every sample."""
