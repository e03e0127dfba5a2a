"""Remove folders from texts, because they may contain names of people and machines."""

from __future__ import annotations

import re

__all__ = ["without_paths"]

_QUOTED_PATH = re.compile(r"""(['"])(?:[A-Za-z]:[\\/]|~?/|\\\\)[^'"]*?([^'"\\/]+)[\\/]?\1""")
_PATH = re.compile(
    r"""(?<![\w.])(?:(?:file://|[A-Za-z]:[\\/]|\\\\|~/)(?:[^\s'"\\/]*[\\/])*|/(?:[^\s'"\\/]+/)+)([^\s'"\\/]*)"""
)
#: What is left of a path with a blank in it, and paths from the working folder: `Doe/scan.nii.gz`.
_RELATIVE = re.compile(r"""[^\s'"\\/=,]+[\\/](?:[^\s'"\\/]+[\\/])*([^\s'"\\/]+\.\w+)""")


def without_paths(text: str) -> str:
    """Text in which every path is reduced to its last part; folders may contain names of people and machines.

    >>> without_paths("/home/ann/study/a.nii.gz: no such file")
    'a.nii.gz: no such file'
    """
    text = _QUOTED_PATH.sub(r"\1\2\1", text)
    text = _PATH.sub(r"\1", text)
    return _RELATIVE.sub(r"\1", text)
