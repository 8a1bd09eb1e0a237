import json

from adam_minibatch_noise.theory import c_total, limit_constants
from sim import constants


def test_prints_one_json_object(capsys):
    constants.main(["--beta1", "0.9", "--beta2", "0.99", "--lam", "0.7", "--format", "json"])
    values = json.loads(capsys.readouterr().out)
    assert {name: values[name] for name in ("FB", "C1", "C2", "C3", "C4", "C5")} == vars(
        limit_constants(0.9, 0.99)
    )
    assert values["C_total"] == float(c_total(0.9, 0.99, 0.7))


def test_rejects_beta_of_one_and_negative_lam(fails):
    assert "--beta1" in fails(constants.main, "--beta1", 1.0)
    assert "--lam" in fails(constants.main, "--lam", -0.1)
