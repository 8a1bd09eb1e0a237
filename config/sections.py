"""Which settings of which program stand where in the configuration.

What a setting may be is declared once, at its program: by a field of the dataclass ``Settings`` (`common.settings`),
or, where the program has none, by its flags.
"""

import argparse
import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.settings import Number, schema, setting
from common.studies import STUDIES

NO_SETTINGS = {"n_threads", "format", "progress", "help", "compile", "max_minutes"}
"""Flags that change no number, or that the rules give themselves."""


@dataclass(frozen=True)
class Section:
    """What a section of the configuration takes from a program.

    Attributes
    ----------
    program : str
        Its module.
    lists, omit, required : sequence of str
        As in `common.settings.schema`.
    only : sequence of str, optional
    limits : mapping
        What a setting is limited to besides, as in JSON schema.
    """

    program: str
    lists: Sequence[str] = ()
    omit: Sequence[str] = ()
    only: Sequence[str] | None = None
    required: Sequence[str] = ()
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """Return its JSON schema."""
        made = schema(
            settings_of(self.program),
            lists=self.lists,
            omit=self.omit,
            only=self.only,
            required=self.required,
        )
        for name, limits in self.limits.items():
            made["properties"][name] |= limits
        return made


def settings_of(program: str) -> type:
    """Return the settings of a program as a dataclass: its own fields, and the rest of its flags.

    Parameters
    ----------
    program : str
        A module with a function ``parser``.
    """
    module = importlib.import_module(program)
    declared = getattr(module, "Settings", None)
    fields = {each.name: each for each in dataclasses.fields(declared)} if declared else {}
    found: list[tuple[str, type, Any]] = []
    for action in module.parser()._actions:
        own = fields.get(action.dest)
        if own is not None:
            found.append((own.name, object, setting(own.default, **_about(own))))
        elif action.dest not in NO_SETTINGS and _is_setting(action):
            found.append((action.dest, object, _setting_of(action)))
    return dataclasses.make_dataclass("Settings", found, frozen=True, kw_only=True)


def _about(own: "dataclasses.Field[Any]") -> dict[str, Any]:
    return {name: own.metadata[name] for name in ("help", "kind", "choices", "group", "unit", "only_with")}


def _is_setting(action: argparse.Action) -> bool:
    return isinstance(action.type, Number) or bool(action.choices) or action.nargs == 0


def _setting_of(action: argparse.Action) -> Any:
    default = bool(action.default) if action.nargs == 0 else action.default
    if action.nargs not in (0, None):
        default = tuple(default or ())
    kind = action.type if isinstance(action.type, Number) else None
    return setting(default, action.help or "", kind, choices=[*map(str, action.choices or ())])


SWEPT = ("seed", "lr", "batch_size", "beta1", "beta2")
PROBLEM = ("problem_file",)
IMAGE_LISTS = ("lr", "weight_decay", "batch_size", "seed")
SET_BY_A_STUDY = ("study", "optimizer", "weight_decay", "batch_size", "supports", "seed")
SECTIONS = {
    **{f"sim.{name}": Section(f"sim.{name}") for name in STUDIES},
    "sim.expectation": Section("sim.expectation", lists=("batch_size", "beta2"), omit=PROBLEM),
    "sim.terms.CASE": Section("sim.terms", omit=PROBLEM),
    "sim.feature_noise_studies.settings": Section("sim.feature_noise_studies", omit=SET_BY_A_STUDY),
    "sim.overfitting_study.VARIANT": Section("sim.overfitting_study", omit=("variant", "first_seed")),
    "train.sweep.settings": Section("train.sweep", omit=SWEPT),
    "train.run.CASE": Section(
        "train.run",
        only=(*SWEPT, "n_epochs", "patience", "evaluations_per_epoch"),
        required=("batch_size", "lr"),
    ),
    "train.noise_scale": Section("train.noise_scale"),
    "train.image_sweep.cases.CASE": Section("train.image_sweep", lists=IMAGE_LISTS),
    "analysis.plot_c_total": Section(
        "analysis.plot_c_total", limits={"lams": {"maxItems": 8}, "map_lams": {"minItems": 2, "maxItems": 2}}
    ),
    "analysis.plot_turning": Section("analysis.plot_turning"),
}
"""Where settings of which program stand; CASE is any name, VARIANT a variant of the study."""
