"""Plain data, as YAML and JSON hold it, checked against the type hints of a dataclass."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from atlaseg.pipeline.errors import OptionError, PlanError

__all__ = [
    "Count",
    "NotNegative",
    "Positive",
    "Range",
    "Seed",
    "Share",
    "Whole",
    "build_checked",
    "check_ranges",
    "convert",
    "describe",
    "shortened",
    "without_none",
]


@dataclass(frozen=True)
class Range:
    """Range of a number, as metadata of its type: ``Annotated[int, Range(at_least=1)]``."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range.

        >>> Range(above=0).holds(0.0), Range(at_least=0, at_most=1).holds(1)
        (False, True)
        """
        return (
            (isinstance(value, int) or math.isfinite(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        said = {
            "at least": self.at_least,
            "greater than": self.above,
            "at most": self.at_most,
            "less than": self.below,
        }
        return " and ".join(f"{word} {limit:.15g}" for word, limit in said.items() if limit is not None)


#: Whole numbers from 1; none in atlaseg comes near the limit, and what does not fit 32 bits fits no library either.
Count = Annotated[int, Range(at_least=1, at_most=2**31 - 1)]
#: Whole numbers from 0, with the same limit.
Whole = Annotated[int, Range(at_least=0, at_most=2**31 - 1)]
#: Seeds: numpy and scikit-learn take 32 bits without a sign.
Seed = Annotated[int, Range(at_least=0, at_most=2**32 - 1)]
#: Finite numbers greater than 0.
Positive = Annotated[float, Range(above=0)]
#: Finite numbers from 0.
NotNegative = Annotated[float, Range(at_least=0)]
#: Numbers from 0 to 1.
Share = Annotated[float, Range(at_least=0, at_most=1)]


def build_checked(kind: type[Any], content: dict[str, Any], where: str, **given: Any) -> Any:
    """A dataclass from plain data, each field checked against its type hint.

    Args:
        kind: the dataclass.
        content: field name -> value, lists for tuples, mappings for nested dataclasses.
        where: name of the part, for messages.
        given: fields that are ready, whatever ``content`` says.

    Raises:
        PlanError: an unknown entry, a missing one, or a value of the wrong type or out of its range.
    """
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    if unknown := sorted(str(k) for k in content if k not in known):
        raise PlanError(
            f"{'.'.join(filter(None, [where, unknown[0]]))}: no such entry; known are {', '.join(known)}"
        )
    hints = typing.get_type_hints(kind, include_extras=True)
    values = dict(given)
    for name, value in content.items():
        values[name] = convert(hints[name], value, f"{where}.{name}".strip("."))
    required = [
        n
        for n, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in values
    ]
    if required:
        raise PlanError(f"{'.'.join(filter(None, [where, required[0]]))}: missing")
    return kind(**values)


def convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 (one return per kind of type)
    """Plain data as the type that a hint states.

    >>> convert(tuple[int, ...], [1, 2], "axes")
    (1, 2)

    Raises:
        PlanError: it is of another type, or a number out of its range; the message begins with ``where``.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        converted = convert(arguments[0], value, where)
        for limits in arguments[1:]:
            if isinstance(limits, Range) and not limits.holds(converted):
                raise PlanError(f"{where} must be {limits}, found {shortened(value)}")
        return converted
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return build_checked(hint, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert_to_one_of(hint, value, where)
    if origin is Literal and any(type(value) is type(a) and value == a for a in arguments):
        return value
    if origin is dict and isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return dict(value)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return tuple(convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise PlanError(f"{where}: expected {describe(hint)}, found {shortened(value)}")


def _convert_to_one_of(hint: Any, value: Any, where: str) -> Any:
    kinds = without_none(hint)
    if len(kinds) == 1:
        return convert(kinds[0], value, where)  # its own message says more, such as which item is wrong
    for kind in kinds:
        with contextlib.suppress(PlanError):
            return convert(kind, value, where)
    raise PlanError(f"{where}: expected {describe(hint)}, found {shortened(value)}")


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PlanError(f"{where}: expected a finite number, found {shortened(value)}")
    return number


def shortened(value: Any) -> str:
    """A value as messages quote it, however long it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a whole number of more than 40 digits"  # Python refuses to print the longest
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def without_none(hint: Any) -> list[Any]:
    """The types that a union joins, without ``None``; a hint that is no union by itself.

    >>> without_none(int | None)
    [<class 'int'>]
    """
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    return [argument for argument in get_args(hint) if argument is not type(None)]


def describe(hint: Any) -> str:
    """Describe the values that a type hint allows, in words.

    >>> describe(int | tuple[int, int, int] | None)
    'a whole number, or a list of 3 x a whole number, or none'
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return ", or ".join(describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin is tuple:
        inner = describe(arguments[0])
        return f"a list of {inner}" if arguments[-1] is Ellipsis else f"a list of {len(arguments)} x {inner}"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "none",
    }
    return words.get(hint, "a mapping")


def check_ranges(job: Any) -> None:
    """Refuse numbers of a dataclass that are not finite, or lie outside the :class:`Range` of their types.

    Fields that are dataclasses themselves are looked into.

    Raises:
        OptionError: the first; the message names the field as an option of the command line.
    """
    hints = typing.get_type_hints(type(job), include_extras=True)
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if dataclasses.is_dataclass(value):
            check_ranges(value)
        option = f"--{field.name.replace('_', '-')}"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise OptionError(f"{option} must be a finite number, found {number}")
            if isinstance(number, int | float) and not isinstance(number, bool):
                for limits in _ranges(hints[field.name]):
                    if not limits.holds(number):
                        raise OptionError(f"{option} must be {limits}, found {shortened(number)}")


def _ranges(hint: Any) -> list[Range]:
    """Every range that a hint names, at any depth."""
    inside = [limits for argument in get_args(hint) for limits in _ranges(argument)]
    return [*inside, *(m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Range))]
