"""One source for each setting: a field of a frozen dataclass, from which its flag, its schema and its column come.

A program declares its settings once::

    @dataclass(frozen=True)
    class Settings:
        lr: float = setting(1e-3, "learning rate, constant", POSITIVE, group="optimizer")
        batch_size: int = setting(64, "samples a step", COUNT, unit="samples", group="optimizer")

`add_flags` makes ``--lr`` and ``--batch-size`` of it, `from_flags` reads them, `schema` says what the configuration may
hold, and `used` returns what goes into a row of the result.
"""

import argparse
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from adam_minibatch_noise.errors import InputError

LARGEST = 10**12
"""Largest whole number that a flag takes, unless its type says otherwise: what no machine could count or hold."""
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
    only_with: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Declare a setting: the value of a dataclass field.

    Parameters
    ----------
    default : object
        True or False: the flag is ``--name`` and ``--no-name``; a tuple: the flag takes several values.
    help : str
        What it is, for ``--help`` and the list of settings.
    kind : Number or callable, optional
        What one value may be: reads the text of the flag. Not for choices and switches.
    choices : sequence of str
        Names that it may have instead.
    group : str
        Heading of its flag in ``--help``.
    unit : str
        What it counts or measures, such as "samples"; in ``--help`` behind the meaning.
    only_with : mapping of str to sequence, optional
        Values of other settings of the class with which this one has a meaning, such as
        ``{"problem_file": (None,)}``; given with another value it is refused, and left out of the result.

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
        "only_with": dict(only_with or {}),
    }
    return dataclasses.field(default=default, metadata=metadata)


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
        unit = f" ({about['unit']})" if about["unit"] else ""
        words: dict[str, Any] = {"help": about["help"] + unit, "default": field.default}
        if isinstance(field.default, bool):
            words["action"] = argparse.BooleanOptionalAction
        elif about["choices"]:
            words["choices"] = about["choices"]
        elif about["kind"] is not None:
            words |= {"type": about["kind"], "metavar": field.name.rsplit("_", 1)[-1].upper()}
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
    for name in getattr(arguments, "given", ()):
        other = _hindrance(settings, name) if name in values else None
        if other:
            allowed = _in_words(_field(cls, name).metadata["only_with"][other])
            raise InputError(
                f"{flag(name)} is {_shown(values[name])}, allowed only with {flag(other)} {allowed}: "
                f"this is {flag(other)} {_shown(getattr(settings, other))}"
            )
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


def _hindrance(settings: Any, name: str) -> str | None:
    """Return the setting beside which `name` has no meaning, if there is one."""
    conditions = _field(type(settings), name).metadata["only_with"]
    return next(
        (other for other, allowed in conditions.items() if getattr(settings, other) not in allowed), None
    )


def _in_words(values: Sequence[Any]) -> str:
    return " or ".join("not given" if value is None else str(value) for value in values)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
