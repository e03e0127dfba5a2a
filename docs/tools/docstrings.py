"""Docstrings as Markdown: roles of Sphinx, literal blocks and doctests, which mkdocstrings would show as they are."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["DocstringsAsMarkdown", "as_markdown"]

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([\w.]+)`")
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


def as_markdown(text: str) -> str:
    """The text of a docstring in Markdown.

    >>> as_markdown("See :func:`~package.part.name`::")
    'See `name`:'
    """
    plain = _ROLE.sub(lambda found: f"`{found[1].rsplit('.', 1)[-1]}`", text)
    plain = re.sub(r"::$", ":", plain, flags=re.MULTILINE)
    return _DOCTEST.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", plain)


class DocstringsAsMarkdown(griffe.Extension):
    """Changes every docstring when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
