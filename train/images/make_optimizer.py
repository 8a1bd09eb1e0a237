"""The optimisers of a study on images, by their name in its settings."""

from torch import Tensor
from torch.optim import Optimizer

from adam_minibatch_noise.optimizers.adam import Adam
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from adam_minibatch_noise.optimizers.scaling import scale_from_reference
from train.images.settings import Settings


def make(settings: Settings, params: list[Tensor]) -> Optimizer:
    """Make the optimiser that the settings name, with learning rate, betas and eps scaled as they say.

    Parameters
    ----------
    settings : Settings
    params : list of Tensor

    Returns
    -------
    Optimizer
        For "adam" one without decay of its own: adding weight_decay times the weights to the gradient is the loop's.

    Raises
    ------
    InputError
        A beta that the scaling would bring below 0.
    """
    s = settings
    lr, betas, eps = s.lr, (s.beta1, s.beta2), s.eps
    if s.scaling != "none":
        scaled = scale_from_reference(s.batch_size, s.reference_batch_size, lr, betas, eps, s.scaling)
        lr, betas, eps = scaled.lr, scaled.betas, scaled.eps
    if s.optimizer == "invariant-adamw":
        return BatchSizeInvariantAdamW(params, lr, betas, eps, weight_decay=s.weight_decay, foreach=True)
    return Adam(params, lr, betas, eps, weight_decay=s.weight_decay if s.optimizer == "adamw" else 0.0)
