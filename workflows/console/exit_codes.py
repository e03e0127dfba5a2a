"""Exit codes of every command, and the errors that lead to them.

====  =================================================================================
0     done
1     done, but some cases failed or are doubtful; they are listed at the end
2     an error that the user can fix, in one line: options, files, disk
130   interrupted from the keyboard
143   terminated, by a person or by a cluster whose time limit is over
====  =================================================================================

Any other code is a crash with a traceback: a bug.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from atlaseg.workflows.console.screen import printable

__all__ = ["DONE", "INTERRUPTED", "REFUSED", "SOME_FAILED", "TERMINATED", "TerminatedError", "exit_code_of"]

DONE, SOME_FAILED, REFUSED = 0, 1, 2
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class TerminatedError(BaseException):
    """SIGTERM was received, from a user or at the time limit of a cluster."""


def exit_code_of(name: str, work: Callable[[], int]) -> int:
    """Run a command; returns its exit code, and prints an error in one line on stderr.

    Args:
        name: of the command, for the line.
        work: returns 0 or 1.
    """
    from atlaseg.pipeline.errors import AtlasegError

    try:
        return int(work())
    except (AtlasegError, OSError) as error:
        # the system's own: no permission, no space, a file where a folder should be
        print(f"atlaseg {name}: {printable(str(error))}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"atlaseg {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except TerminatedError:
        print(f"atlaseg {name}: terminated", file=sys.stderr)
        return TERMINATED
