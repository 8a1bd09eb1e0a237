"""Optimisers for PyTorch: Adam with either eps, batch-size invariant AdamW, and settings for another batch size."""

from adam_minibatch_noise.optimizers.adam import Adam
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from adam_minibatch_noise.optimizers.scaling import Scaled, scale_from_reference

__all__ = ["Adam", "BatchSizeInvariantAdamW", "Scaled", "scale_from_reference"]
