"""Exact expectation of Corr to second order in the noise, its terms, turning points and certified bounds."""

from adam_minibatch_noise.expansion.bounds import LeftOut, higher_order_bound, left_out
from adam_minibatch_noise.expansion.invariant import (
    exact_invariant_c_total,
    invariant_corr,
    invariant_expectation,
    scatter_constants,
)
from adam_minibatch_noise.expansion.noise_sources import SwitchedCorr
from adam_minibatch_noise.expansion.proposition_a6 import adam_lines
from adam_minibatch_noise.expansion.second_order import (
    adam_constants,
    adam_expectation,
    exact_c_total,
    sgd_momentum_expectation,
)
from adam_minibatch_noise.expansion.weight_sums import (
    WeightSums,
    batch_correlation,
    limit_weight_sums,
    weight_sums,
)

__all__ = [
    "LeftOut",
    "SwitchedCorr",
    "WeightSums",
    "adam_constants",
    "adam_expectation",
    "adam_lines",
    "batch_correlation",
    "exact_c_total",
    "exact_invariant_c_total",
    "higher_order_bound",
    "invariant_corr",
    "invariant_expectation",
    "left_out",
    "limit_weight_sums",
    "scatter_constants",
    "sgd_momentum_expectation",
    "weight_sums",
]
