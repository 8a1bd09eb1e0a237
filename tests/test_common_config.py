import pytest
import yaml

from adam_minibatch_noise.errors import InputError
from common.config import check, flags, load, write_html

SCHEMA = "config/config.schema.yaml"


@pytest.fixture
def config():
    with open("config/config.yaml") as file:
        return yaml.safe_load(file)


def test_every_shipped_configuration_is_allowed(config):
    from pathlib import Path

    from snakemake.utils import update_config

    check(config, SCHEMA)
    others = [
        path
        for path in Path("config").glob("*.yaml")
        if path.name not in ("config.yaml", "config.schema.yaml")
    ]
    assert len(others) >= 3
    for path in others:
        merged = yaml.safe_load(Path("config/config.yaml").read_text())
        update_config(merged, yaml.safe_load(path.read_text()))
        check(merged, SCHEMA)


def test_check_names_key_value_and_range(config):
    config["train"]["sweep"]["lr"] = [0]
    with pytest.raises(InputError, match=r"train\.sweep\.lr\.0: 0 .*exclusiveMinimum 0"):
        check(config, SCHEMA)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "train: {sweep: {curves: {beta2: {beta1: [0.9], beta2: [1.0]}}}}",
            ["train.sweep.curves.beta2.beta2.0", "1.0", "Maximum"],
        ),
        ("train: {sweep: {settings: {lerning_rate: 1}}}", ["train.sweep.settings", "lerning_rate"]),
        ("results: /elsewhere", ["results", "/elsewhere", "pattern"]),
    ],
)
def test_what_a_person_may_get_wrong_is_named_in_one_line(config, line, words):
    """As the workflow does, which ends with this line (tests/test_pipeline.py)."""
    from snakemake.utils import update_config

    update_config(config, yaml.safe_load(line))
    with pytest.raises(InputError) as caught:
        check(config, SCHEMA)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_flags_are_what_a_person_would_type():
    settings = {"n_samples": 4, "shuffle": False, "progress": True, "lams": [0, 0.5], "data_dir": None}
    assert flags(settings) == "--n-samples 4 --no-shuffle --progress --lams 0 0.5"


def test_a_long_path_with_a_blank_stands_on_one_line_of_the_page(tmp_path):
    data_dir = "/" + "a" * 70 + "/my texts/" + "b" * 69
    assert len(data_dir) == 150
    page = tmp_path / "configuration.html"
    write_html(str(page), {"results": "results", "data_dir": data_dir, "note": None})
    lines = page.read_text().splitlines()
    assert f"data_dir: {data_dir}" in lines
    assert lines[-3:] == [f"data_dir: {data_dir}", "note: null", "</pre>"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results: a\ndata_dir: b\nresults: c\n", "results stands twice in the mapping from line 1"),
        (
            "sim:\n  turning:\n    beta1: 0.5\n    beta1: 0.9\n",
            "beta1 stands twice in the mapping from line 3",
        ),
    ],
)
def test_a_setting_that_stands_twice_is_refused(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load(str(path))


def test_aliases_and_merged_mappings_are_no_repetition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("one: &one {a: 1, b: 2}\ntwo: {<<: *one, b: 3}\nthree: {a: {a: 1}, b: {a: 1}}\n")
    assert load(str(path))["two"] == {"a": 1, "b": 3}
