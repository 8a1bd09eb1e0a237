"""The gradient noise scale: estimated from two batch sizes, or computed from the gradient of every sample."""

from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate
from adam_minibatch_noise.noise_scale.fieller import fieller_interval
from adam_minibatch_noise.noise_scale.meter import NoiseScaleMeter
from adam_minibatch_noise.noise_scale.sample_gradients import (
    GradientMoments,
    GradientNoise,
    gradient_moments,
    gradient_noise,
)
from adam_minibatch_noise.noise_scale.two_batch import TwoBatchEstimator, sq_norm

__all__ = [
    "GradientMoments",
    "GradientNoise",
    "NoiseEstimate",
    "NoiseScaleMeter",
    "TwoBatchEstimator",
    "fieller_interval",
    "gradient_moments",
    "gradient_noise",
    "sq_norm",
]
