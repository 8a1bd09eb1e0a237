"""One source for each setting: a field of a frozen dataclass, from which its flag, its schema and its column come.

A program declares its settings once::

    @dataclass(frozen=True)
    class Settings:
        lr: float = setting(1e-3, "learning rate, constant", POSITIVE, group="optimizer")
        batch_size: int = setting(64, "samples a step", COUNT, unit="samples", group="optimizer")

`add_flags` makes ``--lr`` and ``--batch-size`` of it, `from_flags` reads them, `schema` says what the configuration may
hold, and `used` returns what goes into a row of the result.

Longer than other modules, so that all that follows from a setting is in one place.
"""

import argparse
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from adam_minibatch_noise.errors import InputError

LARGEST = 10**12
"""Largest whole number that a flag takes, unless its type says otherwise: what no machine could count or hold."""
Conditions = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]
"""Values of other settings with which one has a meaning (`setting`)."""
T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """A finite number of an interval; called with the text of a flag it returns the value.

    Attributes
    ----------
    kind : {int, float}
    low, high : float
        Ends of the interval; the high end of a whole number is `LARGEST` unless given.
    open_low, open_high : bool
        Whether the end itself is excluded.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __post_init__(self) -> None:
        if self.kind is int and self.high == math.inf:
            object.__setattr__(self, "high", LARGEST)

    def __call__(self, text: str) -> Any:
        """Read the text of a flag.

        Raises
        ------
        argparse.ArgumentTypeError
            Naming the text and the allowed range.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.holds(value):
            start = text if len(text) <= 60 else text[:57] + "..."
            raise argparse.ArgumentTypeError(f"is {start!r}, allowed: {self.allowed}")
        return value

    def holds(self, value: float) -> bool:
        """Whether `value` is finite and in the interval."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        ends = []
        if self.low > -math.inf:
            ends.append(f"{'>' if self.open_low else '>='} {self.low:g}")
        if self.high < math.inf:
            ends.append(f"{'<' if self.open_high else '<='} {self.high:g}")
        noun = "a whole number" if self.kind is int else "a finite number"
        return " ".join([noun, " and ".join(ends)]).strip()

    def schema(self) -> dict[str, Any]:
        """JSON schema of one value."""
        result: dict[str, Any] = {"type": "integer" if self.kind is int else "number"}
        if self.low > -math.inf:
            result["exclusiveMinimum" if self.open_low else "minimum"] = _short(self.low)
        if self.high < math.inf:
            result["exclusiveMaximum" if self.open_high else "maximum"] = _short(self.high)
        return result


def _short(end: float) -> float:
    return int(end) if end == int(end) else end


BETA = Number(float, 0, 1, open_high=True)
"""A decay rate: 0 <= beta < 1."""
SHARE = Number(float, 0, 1, open_high=True)
"""A share of a whole, such as a dropout rate: 0 <= share < 1."""
POSITIVE = Number(float, 0, open_low=True)
"""A learning rate and the like: > 0."""
NONNEGATIVE = Number(float, 0)
"""A regularisation constant and the like: >= 0."""
COUNT = Number(int, 1)
"""A number of things: a whole number >= 1."""
WHOLE = Number(int, 0)
"""A number of things, 0 with a meaning of its own: a whole number >= 0."""
SEED = Number(int, 0, 2**63 - 1)
"""A seed of random numbers."""


def setting(
    default: Any,
    help: str,
    kind: Number | Callable[[str], Any] | None = None,
    *,
    choices: Sequence[str] = (),
    group: str = "settings",
    unit: str = "",
    only_with: Conditions = (),
) -> Any:
    """Declare a setting: the value of a dataclass field.

    Parameters
    ----------
    default : object
        True or False: the flag is ``--name`` and ``--no-name``; a tuple: the flag takes several values;
        `dataclasses.MISSING`: the flag must be given.
    help : str
        What it is, for ``--help`` and the list of settings.
    kind : Number or callable, optional
        What one value may be: reads the text of the flag. Not for switches.
    choices : sequence of str
        Names that it may have instead; where `kind` is given too, it reads the flag, and the schema lists the names.
    group : str
        Heading of its flag in ``--help``.
    unit : str
        What it counts or measures, such as "samples"; in ``--help`` behind the meaning.
    only_with : mapping of str to sequence, or several of them, optional
        Values of other settings of the class with which this one has a meaning, such as
        ``{"problem_file": (None,)}``; of a setting that takes several values, one of them. Given with another value it
        is refused, and left out of the result. Of several mappings one must hold. A setting that depends on one without
        a meaning has none either.

    Returns
    -------
    dataclasses.Field
    """
    metadata = {
        "help": help,
        "kind": kind,
        "choices": tuple(choices),
        "group": group,
        "unit": unit,
        "only_with": _alternatives(only_with),
    }
    return dataclasses.field(default=default, metadata=metadata)


def inherited(
    cls: type,
    name: str,
    *,
    default: Any = None,
    only_with: Conditions | None = None,
    also_with: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> Any:
    """Declare a setting of a parent class anew, with another default or other conditions.

    Parameters
    ----------
    cls : type
        The parent.
    name : str
        Of its setting.
    default : object, optional
        Default: that of the parent, of which the help may tell behind "; default: ".
    only_with : optional
        As in `setting`; default: that of the parent.
    also_with : mapping of str to sequence
        A condition that must hold beside these.

    Returns
    -------
    dataclasses.Field
    """
    parent = _field(cls, name)
    metadata = dict(parent.metadata)
    if default is not None:
        metadata["help"] = metadata["help"].split("; default: ")[0]
    if only_with is not None:
        metadata["only_with"] = _alternatives(only_with)
    if also_with:
        of_parent: tuple[Mapping[str, Sequence[Any]], ...] = metadata["only_with"] or ({},)
        metadata["only_with"] = tuple({**also_with, **conditions} for conditions in of_parent)
    return dataclasses.field(default=parent.default if default is None else default, metadata=metadata)


def _alternatives(only_with: Conditions) -> tuple[Mapping[str, Sequence[Any]], ...]:
    return (only_with,) if isinstance(only_with, Mapping) else tuple(only_with)


def names(cls: type) -> tuple[str, ...]:
    """Return the names of the settings of a class, in their order."""
    return tuple(field.name for field in _settings(cls))


def flag(name: str) -> str:
    """Return the flag of a setting: ``batch_size`` becomes ``--batch-size``."""
    return "--" + name.replace("_", "-")


def add_flags(
    parser: argparse.ArgumentParser,
    cls: type,
    *,
    lists: Sequence[str] = (),
    omit: Sequence[str] = (),
) -> None:
    """Add a flag for each setting of a class.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    cls : type
        A dataclass of settings.
    lists : sequence of str
        Settings whose flag takes several values, for a program that runs every combination (`combinations`).
    omit : sequence of str
        Settings that this program has no flag for.
    """
    groups: dict[str | None, Any] = {group.title: group for group in parser._action_groups}
    for field in _settings(cls):
        if field.name in omit:
            continue
        about = field.metadata
        if about["group"] not in groups:
            groups[about["group"]] = parser.add_argument_group(about["group"])
        text = about["help"] + (f" ({about['unit']})" if about["unit"] else "")
        if about["only_with"]:
            text += f"; only {_conditions_in_words(about['only_with'])}"
        words: dict[str, Any] = {"help": text, "default": field.default}
        if field.default is dataclasses.MISSING:
            words = {"help": text, "required": True}
        if isinstance(field.default, bool):
            words["action"] = argparse.BooleanOptionalAction
        elif about["kind"] is not None:
            words |= {"type": about["kind"], "metavar": field.name.rsplit("_", 1)[-1].upper()}
        elif about["choices"]:
            words["choices"] = about["choices"]
        if field.name in lists:
            words |= {"nargs": "+", "default": [field.default]}
        elif isinstance(field.default, tuple):
            words |= {"nargs": "+", "default": list(field.default)}
        groups[about["group"]].add_argument(flag(field.name), **words)


def from_flags(cls: type[T], arguments: argparse.Namespace) -> T:
    """Make the settings that the flags of `add_flags` say.

    Of a setting that takes a list (`lists` of `add_flags`) it is the first value.

    Parameters
    ----------
    cls : type
    arguments : argparse.Namespace
        Of `common.cli.Parser`, which remembers which flags were given.

    Raises
    ------
    InputError
        A flag was given that has no meaning beside another (`only_with` of `setting`).
    """
    values = {}
    for field in _settings(cls):
        value = getattr(arguments, field.name, field.default)
        if isinstance(value, list):
            value = tuple(value) if isinstance(field.default, tuple) else value[0]
        values[field.name] = value
    settings = cls(**values)
    given = getattr(arguments, "given", ())
    for name in values:
        hindrance = _hindrance(settings, name) if name in given else ""
        if hindrance:
            raise InputError(f"{_as_given(name, values[name])}, allowed only {hindrance}")
    return settings


def combinations(cls: type[T], arguments: argparse.Namespace, lists: Sequence[str]) -> list[T]:
    """Make the settings of every combination of the settings that take lists, the last running fastest.

    Raises
    ------
    InputError
        A list holds a value twice, or as in `from_flags`.
    """
    first = from_flags(cls, arguments)
    values = {name: getattr(arguments, name) for name in lists}
    for name, several in values.items():
        if len(set(several)) < len(several):
            raise InputError(f"{flag(name)} is {' '.join(map(str, several))}, allowed: each value once")
    chosen = [dict(zip(lists, choice, strict=True)) for choice in itertools.product(*values.values())]
    return [dataclasses.replace(first, **each) for each in chosen]  # type: ignore[type-var]  # T is a dataclass


def used(settings: Any) -> dict[str, Any]:
    """Return the settings that had a meaning, by name; those that had none are None.

    Parameters
    ----------
    settings : dataclass instance

    Returns
    -------
    dict
        In the order of the fields, for a row of the result: an empty cell says that the setting was not used.
    """
    return {
        name: None if _hindrance(settings, name) else getattr(settings, name)
        for name in names(type(settings))
    }


def schema(
    cls: type,
    *,
    lists: Sequence[str] = (),
    omit: Sequence[str] = (),
    only: Sequence[str] | None = None,
    required: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the JSON schema of a section of the configuration that holds settings of a class.

    Parameters
    ----------
    cls : type
    lists, omit : sequence of str
        As in `add_flags`.
    only : sequence of str, optional
        The settings that the section may hold; default: all.
    required : sequence of str
        Those that it must hold.
    """
    properties = {}
    for field in _settings(cls):
        if field.name in omit or (only is not None and field.name not in only):
            continue
        one = _one_value(field)
        several = field.name in lists or isinstance(field.default, tuple)
        properties[field.name] = (
            {"type": "array", "minItems": 1, "uniqueItems": True, "items": one} if several else one
        )
    result: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return result | ({"required": list(required)} if required else {})


def _one_value(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    about = field.metadata
    if isinstance(field.default, bool):
        return {"type": "boolean"}
    if about["choices"]:
        return {"enum": list(about["choices"])}
    if isinstance(about["kind"], Number):
        return about["kind"].schema()
    return {"type": "string"}


def _settings(cls: type) -> "list[dataclasses.Field[Any]]":
    return [field for field in dataclasses.fields(cls) if "help" in field.metadata]


def _field(cls: type, name: str) -> "dataclasses.Field[Any]":
    return next(field for field in _settings(cls) if field.name == name)


def _hindrance(settings: Any, name: str) -> str:
    """Say with what else `name` would have a meaning; empty if it has one."""
    alternatives = _field(type(settings), name).metadata["only_with"]
    unmet = [
        next((other for other, allowed in conditions.items() if not _met(settings, other, allowed)), "")
        for conditions in alternatives
    ]
    if not unmet:
        return ""
    if not all(unmet):  # what was chosen elsewhere must have a meaning itself
        met = (conditions for conditions, other in zip(alternatives, unmet, strict=True) if not other)
        chosen = ([other for other in conditions if getattr(settings, other)] for conditions in met)
        return min(
            (next(filter(None, (_hindrance(settings, o) for o in one)), "") for one in chosen), key=len
        )
    wanted = [
        _in_words(other, conditions[other]) for other, conditions in zip(unmet, alternatives, strict=True)
    ]
    there = [_as_given(other, getattr(settings, other)) for other in unmet if getattr(settings, other)]
    return " or ".join(wanted) + (f" ({', '.join(there)})" if there else "")


def _met(settings: Any, other: str, allowed: Sequence[Any]) -> bool:
    value = getattr(settings, other)
    return any(one in allowed for one in value) if isinstance(value, tuple) else value in allowed


def _conditions_in_words(alternatives: Sequence[Mapping[str, Sequence[Any]]]) -> str:
    return " or ".join(
        " and ".join(_in_words(other, allowed) for other, allowed in conditions.items())
        for conditions in alternatives
    )


def _in_words(other: str, allowed: Sequence[Any]) -> str:
    values = [str(value) for value in allowed if value is not None and not isinstance(value, bool)]
    listed = " or ".join(filter(None, [", ".join(values[:-1]), *values[-1:]]))
    words = [f"with {flag(other)} {listed}"] if values else []
    words += [f"with {flag(other)}" for value in allowed if value is True]
    words += [f"without {flag(other)}" for value in allowed if value is None or value is False]
    return " or ".join(words)


def _as_given(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} is {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
