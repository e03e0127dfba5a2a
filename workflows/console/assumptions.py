"""Print warnings about assumptions once each on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from atlaseg.workflows.console.screen import printable

__all__ = ["printed_assumptions"]

#: Files whose headers leave something to be assumed are named one by one, up to this many.
_MOST_ASSUMPTIONS = 10


@contextmanager
def printed_assumptions(name: str) -> Iterator[None]:
    """Print warnings for the user (:class:`~atlaseg.pipeline.errors.AtlasegWarning`), one line each, each once."""
    import warnings

    from atlaseg.pipeline.errors import AtlasegWarning

    said: set[str] = set()
    show = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, AtlasegWarning):
            show(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            if len(said) <= _MOST_ASSUMPTIONS:
                print(f"atlaseg {name}: warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", AtlasegWarning)
        warnings.showwarning = tell
        try:
            yield
        finally:
            if len(said) > _MOST_ASSUMPTIONS:
                more = len(said) - _MOST_ASSUMPTIONS
                print(f"atlaseg {name}: warning: and {more} more files of that kind", file=sys.stderr)
