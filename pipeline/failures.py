"""Turn exceptions of MONAI, torch and other libraries into errors of one line that name the input.

MONAI wraps what goes wrong in a transform or in an expression of a config into errors of its own, several deep, and
prints tensors and transforms; torch has no class for exhausted memory on a CPU.
"""

from __future__ import annotations

import re

from atlaseg.pipeline.errors import AtlasegError, DatasetError, MemoryShortageError

__all__ = ["first_line", "root_cause", "user_error"]

#: How torch says, on a CPU and on a GPU, in errors that have no class of their own, that memory is exhausted.
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
_LONGEST = 200


def root_cause(error: BaseException) -> BaseException:
    """The underlying error of a chain of exceptions: atlaseg's own or the system's, where there is one.

    Exhausted memory is a :class:`~atlaseg.pipeline.errors.MemoryShortageError`, whichever library reports it;
    otherwise it is the exception at the chain's end.
    """
    cause = error
    while True:
        if isinstance(cause, AtlasegError | OSError):
            return cause
        if isinstance(cause, MemoryError) or _NO_MEMORY.search(str(cause)):
            return MemoryShortageError(f"out of memory ({first_line(cause) or 'no more available'})")
        if cause.__cause__ is None:
            return cause
        cause = cause.__cause__


def user_error(error: BaseException, subject: str, failed: str) -> AtlasegError | OSError:
    """Convert an exception of a library into an error to show to a user.

    Args:
        error: that was caught.
        subject: what was at work, a file if there is one.
        failed: what could not be done, such as ``cannot be prepared for the network``.

    Returns:
        atlaseg's own error or the system's where that is the cause, else one that names the subject.
    """
    cause = root_cause(error)
    if isinstance(cause, MemoryShortageError):
        return MemoryShortageError(f"{subject}: {failed}, {cause}")
    if isinstance(cause, AtlasegError | OSError):
        return cause
    kind = type(cause).__name__
    return DatasetError(f"{subject}: {failed} ({kind}: {first_line(cause)})")


def first_line(error: BaseException) -> str:
    r"""First line of what an exception says, shortened.

    >>> first_line(RuntimeError("Sizes differ\nat ..."))
    'Sizes differ'
    """
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
