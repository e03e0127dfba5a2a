"""Parse ``name=value``: the one parser for options of methods, plans and benchmarks.

How a value reads follows from the type that it must have, so that nothing is guessed:

========================  =====================================================================
whole number              ``3``, ``-1``
number                    ``3``, ``0.1``, ``1e-1``
true or false             ``true``, ``false``, ``yes``, ``no``
nothing, where allowed    ``none`` or ``null``
one of several words      the word
text                      as it is; quotes round it are left out
list                      ``2,2,0`` or ``[2,2,0]`` or ``(2,2,0)``; lists in lists need their brackets
========================  =====================================================================

Numbers that are not finite, and everything else, are refused.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.schema import convert, describe, without_none

__all__ = [
    "at_commas",
    "option_hints",
    "read_options",
    "read_value",
    "refuse_unknown",
    "split_option",
    "split_options",
]

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_BRACKETS = {"[": "]", "(": ")"}


def split_options(words: Sequence[str], subject: str) -> dict[str, str]:
    """Name and text of each ``name=value``.

    Args:
        words: as they were written.
        subject: what they are options of, for messages.

    >>> split_options(["a=1", "b = x=y"], "a method")
    {'a': '1', 'b': 'x=y'}

    Raises:
        OptionError: a word has another form, or a name comes twice.
    """
    options: dict[str, str] = {}
    for word in words:
        name, text = split_option(word, subject)
        if name in options:
            raise OptionError(f"{word!r}: {name} is given twice; give each option of {subject} once")
        options[name] = text
    return options


def split_option(word: str, subject: str) -> tuple[str, str]:
    """Name and text of one ``name=value``; arguments and errors as of :func:`split_options`."""
    name, equals, text = word.partition("=")
    if not equals or not name.strip():
        raise OptionError(f"{word!r} is not an option of {subject}: write it as name=value")
    return name.strip(), text.strip()


def read_options(words: Sequence[str], hints: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """Values of several ``name=value``.

    Args:
        words: as they were written.
        hints: type of each option that is offered.
        subject: what they are options of, for messages.

    >>> read_options(["radius=2,2,0", "share=1e-1"], {"radius": tuple[int, int, int], "share": float}, "a rule")
    {'radius': (2, 2, 0), 'share': 0.1}

    Raises:
        OptionError: a word has another form, a name is not offered or comes twice, or a value has another type.
    """
    given = split_options(words, subject)
    refuse_unknown(given, hints, subject)
    return {name: read_value(text, hints[name], f"{subject}: option {name}") for name, text in given.items()}


def option_hints(kind: type[Any]) -> dict[str, Any]:
    """Type of each option of a method, whose options are the fields of a dataclass that may be given.

    >>> from atlaseg.pipeline.schema import Range
    >>> list(option_hints(Range))
    ['at_least', 'above', 'at_most', 'below']
    """
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def refuse_unknown(given: Iterable[str], offered: Iterable[str], subject: str) -> None:
    """Refuse a name that is not among the options.

    Args:
        given: names that were given.
        offered: names of the options.
        subject: what they are options of, for messages.

    Raises:
        OptionError: the first unknown one, and the options that there are.
    """
    known = list(offered)
    if unknown := [name for name in given if name not in known]:
        having = f"its options are {', '.join(known)}" if known else "it has none"
        raise OptionError(f"{subject} has no option {unknown[0]!r}; {having}")


def read_value(text: str, hint: Any, where: str) -> Any:
    """A value of the type that a hint states.

    Args:
        text: as it was written.
        hint: the type.
        where: what the value is of, for messages.

    >>> read_value("1e-1", float | None, "x"), read_value("none", float | None, "x"), read_value("no", bool, "x")
    (0.1, None, False)
    >>> read_value("[[2,2,1], [2,2,2]]", tuple[tuple[int, int, int], ...], "x")
    ((2, 2, 1), (2, 2, 2))

    Raises:
        OptionError: the text is no such value; the message begins with ``where``.
    """
    try:
        return convert(hint, _plain(text.strip(), hint), where)
    except _UnlikeError:
        raise OptionError(f"{where}: expected {describe(hint)}, found {text!r}") from None
    except PlanError as error:
        raise OptionError(str(error)) from error


class _UnlikeError(Exception):
    """A text has not the form that its type asks for."""


def _plain(text: str, hint: Any) -> Any:  # noqa: PLR0911 (one return per kind of type)
    """Plain data from text, in the form that a hint asks for."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _plain(text, arguments[0])
    kinds = without_none(hint)
    own = any(text in get_args(kind) for kind in kinds if get_origin(kind) is Literal)
    if type(None) in arguments and text.lower() in ("none", "null") and not own:
        return None
    if kinds != [hint]:
        return _of_one(text, kinds)
    if origin is Literal:
        return next((word for word in arguments if str(word) == _unquoted(text)), text)
    if origin is tuple:
        parts = _items(text)
        if arguments[-1] is Ellipsis:
            return [_plain(part, arguments[0]) for part in parts]
        if len(parts) == len(arguments):
            return [_plain(part, kind) for part, kind in zip(parts, arguments, strict=True)]
    if hint is int and _WHOLE.fullmatch(text):
        return int(text)
    if hint is float and _NUMBER.fullmatch(text):
        return float(text)
    if hint is bool and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if hint is str:
        return _unquoted(text)
    raise _UnlikeError


def _of_one(text: str, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        with contextlib.suppress(_UnlikeError, PlanError):
            plain = _plain(text, kind)
            convert(kind, plain, "")
            return plain
    if len(kinds) == 1:
        return _plain(text, kinds[0])
    raise _UnlikeError


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _items(text: str) -> list[str]:
    """Items of a list, its brackets left out where they are one pair."""
    if text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[0]]) and _closes_last(text):
        text = text[1:-1].strip()
        return at_commas(text) if text else []
    return at_commas(text)


def _closes_last(text: str) -> bool:
    """Whether the bracket that a text begins with is closed at its very end."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "[(") - (character in "])")
        if depth == 0:
            return place == len(text) - 1
    return False


def at_commas(text: str) -> list[str]:
    """Parts between the commas that lie outside all brackets, without spaces round them.

    >>> at_commas("a=[1,2], b")
    ['a=[1,2]', 'b']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
