"""Strings that MONAI's bundle parser would evaluate: plans and configs that hold data must not contain them."""

from __future__ import annotations

__all__ = ["is_expression", "is_key_of_code", "quoted", "without_expressions"]

_SIGNS = "$@%"
#: Signs that the parser looks for within texts too: references, macros, parts of names.
_LOOKED_FOR = "@%#:"


def is_expression(text: str) -> bool:
    """Whether ``monai.bundle`` evaluates a text (``$``), resolves it (``@``) or includes a file for it (``%``).

    >>> is_expression("$import os"), is_expression("a@b"), is_expression("5 $")
    (True, True, False)
    """
    return text.lstrip().startswith("$") or "@" in text or "%" in text


def is_key_of_code(key: str) -> bool:
    """Whether ``monai.bundle`` interprets a key of a mapping as an instruction, such as ``_target_``."""
    return key.startswith("_")


def quoted(text: str) -> str:
    r"""A Python literal of a text, in which the parser finds nothing to resolve: ``$`` before it makes it a value.

    >>> quoted("a@b #1"), eval(quoted("a@b #1"))
    ("'a\\x40b \\x231'", 'a@b #1')
    """
    return "".join(f"\\x{ord(sign):02x}" if sign in _LOOKED_FOR else sign for sign in repr(text))


def without_expressions(text: str) -> str:
    """A text for people, such as the name of a folder, with a ``_`` for each sign that could make it an expression.

    >>> without_expressions("Study @home, 50%")
    'Study _home, 50_'
    """
    return "".join("_" if sign in _SIGNS else sign for sign in text)
