"""Print a line every half minute while a job is silent, from its parent process."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading
import time

__all__ = ["Heartbeat"]

#: As those of atlaseg.pipeline.progress, which is not imported for `atlaseg --help`.
SECONDS = 30.0
_SIZE = 1024
_CLOCK = struct.Struct("d")


class Heartbeat:
    """Memory that a job and the process above it share: when the job last said something, and how far it is.

    Args:
        name: of the command, for the lines.
        seconds: of silence until a line is due.
    """

    def __init__(self, name: str, seconds: float = SECONDS) -> None:
        self.name, self.seconds = name, seconds
        self._shared = mmap.mmap(-1, _SIZE)
        self._begun = time.monotonic()
        self.said()

    def said(self) -> None:
        """Note that something has just been printed."""
        _CLOCK.pack_into(self._shared, 0, time.monotonic())

    def tell(self, text: str) -> None:
        """Note the progress of the job."""
        data = text.encode("utf-8", "replace")[: _SIZE - _CLOCK.size - 1]
        self._shared[_CLOCK.size :] = data.ljust(_SIZE - _CLOCK.size, b"\0")

    def due(self) -> str | None:
        """The line that is due, if one is."""
        now = time.monotonic()
        if now - _CLOCK.unpack_from(self._shared, 0)[0] < self.seconds:
            return None
        text = self._shared[_CLOCK.size :].rstrip(b"\0").decode("utf-8", "ignore")
        minutes = (now - self._begun) / 60
        return f"atlaseg {self.name}: at work for {minutes:.1f} min{f' ({text})' if text else ''}"

    def watch(self) -> None:
        """Print lines that are due until this process ends, in a thread; nothing where the screen is a terminal."""
        if not sys.stderr.isatty():
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        owner = os.getpid()
        while os.getpid() == owner:
            time.sleep(min(1.0, self.seconds / 4))
            if line := self.due():
                self.said()
                print(line, file=sys.stderr, flush=True)
