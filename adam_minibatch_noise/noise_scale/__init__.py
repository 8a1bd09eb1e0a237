"""The gradient noise scale: estimated from two batch sizes, or computed from the gradient of every sample."""

from adam_minibatch_noise.noise_scale.two_batch import (
    NoiseEstimate,
    TwoBatchEstimator,
    fieller_interval,
    sq_norm,
)

__all__ = ["NoiseEstimate", "TwoBatchEstimator", "fieller_interval", "sq_norm"]
