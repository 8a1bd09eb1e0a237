"""What the theory asks of a point: the gradient, its noise and the sharpness of the training loss, over all windows."""

from typing import TYPE_CHECKING

import torch

from adam_minibatch_noise.noise_scale.sample_gradients import evaluating, gradient_noise
from train.language.per_sample import window_moments

if TYPE_CHECKING:
    from train.language.trainer import Trainer

RHO = 0.003
"""Length of the step along the sign of the gradient, for the sharpness; as in `sim.small_networks`."""
ROWS = 64
"""Windows at a time."""
COLUMNS = ("gradient_l1", "gradient_squared", "trace_covariance", "sharpness")


def measure(trainer: "Trainer") -> dict[str, float]:
    """Measure the parameters that a trainer holds, without dropout.

    Parameters
    ----------
    trainer : Trainer
        Without memory. Its parameters are the same afterwards.

    Returns
    -------
    dict
        With g the gradient of the mean loss a word over all training windows, in nats: `gradient_l1` |g|_1,
        `gradient_squared` |g|^2, `trace_covariance` tr(Sigma) of the gradients of single windows (divisor: their
        number), `sharpness` the rise of the loss under `RHO` sign(g), the largest one to first order for a step of
        that size in each component.

    Notes
    -----
    Exact up to rounding: every window counts.
    """
    model = trainer.model
    moments = window_moments(model, trainer.inputs, trainer.targets)
    noise = gradient_noise(moments)
    params = list(model.parameters())
    signs = moments.total.sign().to(params[0]).split([param.numel() for param in params])
    before, start = trainer.values.detach().clone(), _mean_loss(trainer)
    with torch.no_grad():
        for param, sign in zip(params, signs, strict=True):
            param.add_(sign.view_as(param), alpha=RHO)
    rise = _mean_loss(trainer) - start
    trainer.load_values(before)
    found = noise.grad_l1, noise.grad_sq_norm, noise.tr_sigma, rise
    return dict(zip(COLUMNS, map(float, found), strict=True))


@torch.no_grad()
def _mean_loss(trainer: "Trainer") -> float:
    """Mean cross-entropy a word over all training windows."""
    total = torch.zeros((), dtype=torch.float64, device=trainer.device)
    with evaluating(trainer.model), trainer.autocast:
        for inputs, targets in zip(trainer.inputs.split(ROWS), trainer.targets.split(ROWS), strict=True):
            total += trainer.model(inputs, targets)[0]
    return float(total) / trainer.inputs.numel()
