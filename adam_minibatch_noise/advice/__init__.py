"""From a noise scale to betas: what the theory says, what other rules say, and what was measured of each."""

from adam_minibatch_noise.advice.advise import Advice, Interval, advise
from adam_minibatch_noise.advice.field_rules import FieldRule, Situation
from adam_minibatch_noise.advice.regimes import RuleOfThumb, rule_of_thumb

__all__ = ["Advice", "FieldRule", "Interval", "RuleOfThumb", "Situation", "advise", "rule_of_thumb"]
