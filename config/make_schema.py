"""Write the schema of the configuration and the list of its settings (`make schema`), from `config/sections.py`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from common.cli import Parser, run
from common.files import atomic_write
from common.results import NAME
from common.settings import BETA, COUNT, Number
from common.studies import STUDIES
from config.sections import SECTIONS, Section, settings_of

SCHEMA, LIST = "config/config.schema.yaml", "docs/settings.md"
RECORDED_ALONE = ("optimizers", "activations")
"""Studies of feature noise of which no figure is drawn on the smaller problem."""
NOTE = "Made by `make schema` from the settings of the programs; edit those, not this file."


def build() -> dict[str, Any]:
    """Return the schema of the whole configuration."""
    made = {place: section.schema() for place, section in SECTIONS.items()}
    study = made["sim.feature_noise_studies.settings"]
    studies = _choices("sim.feature_noise_studies", "study")
    variants = _choices("sim.overfitting_study", "variant")
    hardware = {"gpu": Number(int, 0, 1).schema(), "minutes": COUNT.schema()}
    beta, lists = BETA.schema(), _values
    curve = _closed({"beta1": lists(beta), "beta2": lists(beta)})
    sweep = Section("train.sweep", lists=("lr", "batch_size", "seed"), only=("lr", "batch_size", "seed"))
    names, records = lists({"type": "string"}), {"type": ["string", "null"]}
    sim = {name: made[f"sim.{name}"] for name in STUDIES} | {
        "terms": _cases(made["sim.terms.CASE"]),
        "feature_noise_studies": _closed(
            {"settings": study, "studies": _closed(dict.fromkeys(studies, study), RECORDED_ALONE)}
        ),
        "overfitting_study": _mapping(f"^({'|'.join(variants)})$", made["sim.overfitting_study.VARIANT"]),
    }
    train = {
        "sweep": _closed(
            hardware
            | {"records": records, "settings": made["train.sweep.settings"]}
            | sweep.schema()["properties"]
            | {"curves": _mapping("^beta[12]$", curve)}
        ),
        "run": _cases(made["train.run.CASE"]),
        "noise_scale": made["train.noise_scale"],
        "image_sweep": _closed(
            hardware | {"records": records, "cases": _cases(made["train.image_sweep.cases.CASE"])}
        ),
    }
    analysis = {
        **{name: made[f"analysis.{name}"] for name in ("plot_c_total", "plot_turning")},
        "best_betas": _closed({"beta1": beta, "beta2": beta}),
        "plot_noise_scale": _closed({"cases": names}),
        "plot_terms": _closed({"cases": names}),
        "plot_image_sweep": _closed(
            {study: lists({"type": "string"}, 0) for study in ("batch", "steps", "decay", "invariance")}
        ),
    }
    needed = [name for name in sim if name not in STUDIES]  # a study has its program's defaults
    stages = {
        "sim": _closed(sim) | {"required": needed},
        "train": _closed(train),
        "analysis": _closed(analysis),
    }
    result = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the workflow",
        **_closed({"results": result, "data_dir": {"type": ["string", "null"]}, **stages}),
    }


def _closed(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return the schema of a section in which every name is needed, but for some, and no other allowed."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _mapping(pattern: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section of one kind of entries, at least one."""
    names = {"propertyNames": {"pattern": pattern}}
    return {"type": "object", "minProperties": 1, **names, "additionalProperties": value}


def _cases(value: dict[str, Any]) -> dict[str, Any]:
    return _mapping("^[a-z0-9-]+$", value)


def _values(item: dict[str, Any], fewest: int = 1) -> dict[str, Any]:
    return {"type": "array", "minItems": fewest, "uniqueItems": True, "items": item}


def _choices(program: str, name: str) -> Sequence[str]:
    fields = dataclasses.fields(settings_of(program))
    return next(each.metadata["choices"] for each in fields if each.name == name)


def list_settings() -> str:
    """Return the list of settings in Markdown, a table for each section of the configuration."""
    lines = ["# Settings", "", NOTE]
    for place, section in SECTIONS.items():
        lines += [
            "",
            f"## `{place}`",
            "",
            f"Of `python -m {section.program}`; a setting is the flag of its name.",
            "",
        ]
        lines += ["| setting | allowed | unit | default | meaning |", "|---|---|---|---|---|"]
        allowed = section.schema()["properties"]
        for each in dataclasses.fields(settings_of(section.program)):
            if each.name in allowed:
                about = each.metadata
                cells = [f"`{each.name}`", _in_words(allowed[each.name]), about["unit"]]
                cells += [_shown(each.default), about["help"].replace("|", "\\|")]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _in_words(value: dict[str, Any]) -> str:
    """Say in words what a schema allows."""
    if value.get("type") == "array":
        return "a list: " + _in_words(value["items"])
    if "enum" in value:
        return ", ".join(f"`{name}`" for name in value["enum"])
    if value["type"] == "boolean":
        return "true, false"
    ends = " and ".join(_ends(value))
    return " ".join(
        [{"integer": "whole number", "number": "number"}.get(value["type"], value["type"]), ends]
    ).strip()


def _ends(value: dict[str, Any]) -> Iterator[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in value and value[name] < 10**12:
            yield f"{sign} {value[name]}"


def _shown(default: Any) -> str:
    if default is None or default == () or default is dataclasses.MISSING:
        return ""
    values = default if isinstance(default, tuple) else (default,)
    words = [str(value).lower() if isinstance(value, bool) else _short(value) for value in values]
    return " ".join(words if len(words) <= 12 else [*words[:3], "...", words[-1], f"({len(words)} values)"])


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def texts() -> dict[str, str]:
    """Return what the two files must hold, by path."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Without anchors: a section is read where it stands."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    body = yaml.dump(build(), Dumper=Plain, sort_keys=False, width=130, default_flow_style=None)
    return {SCHEMA: f"# {NOTE}\n{body}", LIST: list_settings()}


def main(argv: list[str] | None = None) -> None:
    """Write both files."""
    Parser(prog="python -m config.make_schema", description=__doc__.split("\n\n")[0]).parse_args(argv)
    for path, text in texts().items():
        with atomic_write(path) as file:
            file.write(text)


if __name__ == "__main__":
    run(main)
