"""Exit codes of every command."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """Exit code of a command."""

    #: Everything was done.
    DONE = 0
    #: Everything was done except for some cases, which are listed.
    SOME_FAILED = 1
    #: Nothing more was done: an error in the data or the command, printed in one line.
    ERROR = 2
    #: Interrupted from the keyboard: 128 + SIGINT, as shells have it.
    INTERRUPTED = 130
    #: Ended by SIGTERM, for example at the time limit of a cluster: 128 + SIGTERM.
    TERMINATED = 143
