"""Texts that MONAI's bundle parser would run: they may stand in no plan and no config that holds data."""

from __future__ import annotations

__all__ = ["is_expression", "is_key_of_code", "without_expressions"]

_SIGNS = "$@%"


def is_expression(text: str) -> bool:
    """Whether ``monai.bundle`` evaluates a text (``$``), resolves it (``@``) or includes a file for it (``%``).

    >>> is_expression("$import os"), is_expression("a@b"), is_expression("5 $")
    (True, True, False)
    """
    return text.lstrip().startswith("$") or "@" in text or "%" in text


def is_key_of_code(key: str) -> bool:
    """Whether a key of a mapping may tell ``monai.bundle`` what to build, such as ``_target_``."""
    return key.startswith("_")


def without_expressions(text: str) -> str:
    """A text for people, such as the name of a folder, with a ``_`` for each sign that could make it an expression.

    >>> without_expressions("Study @home, 50%")
    'Study _home, 50_'
    """
    return "".join("_" if sign in _SIGNS else sign for sign in text)
