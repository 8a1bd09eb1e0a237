"""What `sim.invariance` compares: the rules that scale an algorithm with its batch, and the problems."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.losses.landscapes import Landscape

RULES = {
    "invariant": ("invariant", True),
    "square-root": ("square-root", False),
    "linear": ("invariant", False),
}
"""Name to (rule of `theory.scaling_rule`, whether micro-batches are squared)."""
N_SAMPLES = 256
"""Samples of a `Case`."""
SPREAD_PROBLEMS = ("least-squares", "cnn")
"""Problems of `sim.batch_invariance.spread`."""
BREAK = 0.05
"""Share of the fall of the loss above which the spread over batch sizes breaks the invariance."""


@dataclass(frozen=True)
class Case:
    """A small problem on which trajectories are compared.

    Attributes
    ----------
    problem : {"least-squares", "cnn"}
        5 parameters; 2 filters a class of length 8 with cubic activation.
    noise : float
        Relative spread of a sample of least squares; standard deviation of the noise patch of the CNN.
    micro_batch_size : int
        Samples.
    """

    problem: str
    noise: float
    micro_batch_size: int

    def loss(self, seed: int) -> "Landscape":
        """Draw the problem, of `N_SAMPLES` samples."""
        from sim.losses import cnn
        from sim.losses.landscapes import cnn_landscape, landscape_of
        from sim.losses.problems import make_least_squares

        if self.problem == "least-squares":
            return landscape_of(make_least_squares(N_SAMPLES, 5, self.noise, seed))
        data = cnn.make_data(N_SAMPLES, 8, n_noise=4, noise_std=self.noise, feature_noise=0.2, seed=seed)
        return cnn_landscape(cnn.make_weights(2, 8, init_std=0.5, seed=seed), data)


CASES = {
    "least-squares-quiet": Case("least-squares", 0.1, 1),
    "least-squares-even": Case("least-squares", 0.5, 1),
    "least-squares-loud": Case("least-squares", 3.0, 1),
    "cnn-even": Case("cnn", 0.7, 32),
    "cnn-loud": Case("cnn", 0.7, 1),
}
"""Noise-to-signal ratios of a micro-batch from far below to far above 1."""
