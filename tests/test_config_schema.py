"""The committed schema of the configuration, and the list of settings, are those that the programs' settings give."""

import importlib
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from adam_minibatch_noise.errors import InputError
from common.cli import Parser
from common.config import MAIN, check, load
from common.settings import COUNT, Number, add_flags, setting
from common.studies import STUDIES
from config import make_schema, sections

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", [make_schema.SCHEMA, make_schema.LIST])
def test_committed_files_are_those_of_the_programs(path):
    """`make schema` writes them."""
    assert (ROOT / path).read_text() == make_schema.texts()[path]


def test_schema_is_valid_and_closed():
    schema = make_schema.build()
    jsonschema.Draft202012Validator.check_schema(schema)

    def objects(part):
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for entry in part.values():
                yield from objects(entry)

    found = list(objects(schema))
    assert len(found) > 30
    assert all("additionalProperties" in each for each in found)


def test_every_section_of_the_configuration_that_holds_settings_is_listed():
    config = load(MAIN)
    for place, section in sections.SECTIONS.items():
        part = config
        for name in place.split("."):
            part = next(iter(part.values())) if name == "CASE" else part.get(name, {})
        assert set(part) <= set(section.schema()["properties"]), place


@pytest.mark.parametrize("place", sections.SECTIONS)
def test_every_setting_is_a_flag_of_its_program(place):
    section = sections.SECTIONS[place]
    flags = {action.dest for action in importlib.import_module(section.program).parser()._actions}
    assert set(section.schema()["properties"]) <= flags


def test_a_study_needs_no_section_and_no_case_is_refused(tmp_path):
    config = load(MAIN)
    for name in STUDIES:
        config["sim"].pop(name, None)
    check(config, make_schema.SCHEMA)
    config["sim"]["closeness"] = {"n_lr": 2}
    with pytest.raises(InputError, match=r"sim\.closeness\.n_lr: 2 .*minimum 3"):
        check(config, make_schema.SCHEMA)


class Program:
    """A module whose program has settings of both kinds."""

    @staticmethod
    def parser():
        import dataclasses

        settings = dataclasses.make_dataclass(
            "Settings", [("n", int, setting(3, "things", COUNT, unit="things"))]
        )
        parser = Parser(prog="x")
        add_flags(parser, settings)
        Program.Settings = settings
        parser.add_argument("--share", type=Number(float, 0, 1), nargs="+", default=[0.5], help="of it")
        parser.add_argument("--kind", choices=["a", "b"], default="a")
        parser.add_argument("--out", metavar="FILE")
        parser.add_argument("--n-threads", type=COUNT)
        return parser


def test_settings_come_from_the_dataclass_and_the_rest_of_the_flags(monkeypatch):
    Program.parser()
    monkeypatch.setattr(importlib, "import_module", lambda name: Program)
    section = sections.Section("x")
    assert section.schema()["properties"] == {
        "n": {"type": "integer", "minimum": 1, "maximum": 10**12},
        "share": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "kind": {"enum": ["a", "b"]},
    }
    monkeypatch.setattr(make_schema, "SECTIONS", {"x": section})
    rows = [line for line in make_schema.list_settings().splitlines() if line.startswith("| `")]
    assert rows == [
        "| `n` | whole number >= 1 | things | 3 | things |",
        "| `share` | a list: number >= 0 and <= 1 |  | 0.5 | of it |",
        "| `kind` | `a`, `b` |  | a |  |",
    ]


def test_schema_is_plain_yaml():
    text = make_schema.texts()[make_schema.SCHEMA]
    assert "&id" not in text
    assert json.loads(json.dumps(yaml.safe_load(text))) == make_schema.build()
