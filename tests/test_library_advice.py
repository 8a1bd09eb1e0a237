from adam_minibatch_noise.advice import rule_of_thumb


def test_rule_of_thumb_names_three_regimes():
    assert [rule_of_thumb(lam).regime for lam in (0.1, 0.5, 1.0, 1.1)] == [
        "signal", "between", "between", "noise",
    ]  # fmt: skip
    assert (rule_of_thumb(5).beta1, rule_of_thumb(5).beta2) == (0.9, 0.999)
