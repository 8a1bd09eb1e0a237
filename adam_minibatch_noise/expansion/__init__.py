"""Exact expectation of Corr to second order in the noise for any optimiser with exponential averages.

Also its terms, constants, turning points and certified bounds.
"""

from adam_minibatch_noise.expansion.averaging import (
    Weights,
    lion_average,
    momentum_sum,
    moving_average,
    nadam_average,
    nesterov_sum,
    newest_batch,
)
from adam_minibatch_noise.expansion.bounds import LeftOut, higher_order_bound, left_out
from adam_minibatch_noise.expansion.constants import (
    exact_c_total,
    limit_c_total,
    rule_c_total,
    rule_constants,
)
from adam_minibatch_noise.expansion.expectation import ExpectedCorr, expected_corr
from adam_minibatch_noise.expansion.one_order import SwitchedCorr, rule_corr, rule_updates
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, register, settings_of
from adam_minibatch_noise.expansion.second_order import second_order_lines, second_order_terms
from adam_minibatch_noise.expansion.update_rule import Average, UpdateRule
from adam_minibatch_noise.expansion.weight_sums import (
    WeightSums,
    batch_correlation,
    limit_weight_sums,
    weight_sums,
)

__all__ = [
    "Average",
    "ExpectedCorr",
    "LeftOut",
    "SwitchedCorr",
    "UpdateRule",
    "WeightSums",
    "Weights",
    "batch_correlation",
    "exact_c_total",
    "expected_corr",
    "higher_order_bound",
    "left_out",
    "limit_c_total",
    "limit_weight_sums",
    "lion_average",
    "make_rule",
    "momentum_sum",
    "moving_average",
    "nadam_average",
    "nesterov_sum",
    "newest_batch",
    "optimizer_names",
    "register",
    "rule_c_total",
    "rule_constants",
    "rule_corr",
    "rule_updates",
    "second_order_lines",
    "second_order_terms",
    "settings_of",
    "weight_sums",
]
