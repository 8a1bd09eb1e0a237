"""From a noise scale to betas: what the theory says, what other rules say, and what was measured of each."""

from adam_minibatch_noise.advice.advise import Advice, advise
from adam_minibatch_noise.advice.field_rules import FieldRule
from adam_minibatch_noise.advice.regimes import RuleOfThumb, rule_of_thumb

__all__ = ["Advice", "FieldRule", "RuleOfThumb", "advise", "rule_of_thumb"]
