"""Seconds and memory of a part of a job, the processes it starts and its earlier, interrupted attempts included."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atlaseg.pipeline.system.peak_memory import peak_resident_bytes

__all__ = ["Cost", "Meter", "Registrations", "read_cost"]

#: Seconds between two looks at memory, and between two notes on disk.
LOOK, NOTE = 0.2, 2.0


@dataclass(frozen=True)
class Cost:
    """What something cost.

    Args:
        seconds: wall-clock.
        cpu_seconds: of all its processes.
        peak_mib: highest resident memory, MiB.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    def plus(self, seconds: float) -> Cost:
        """The same with more seconds of work that ran on one core."""
        return replace(self, seconds=self.seconds + seconds, cpu_seconds=self.cpu_seconds + seconds)

    def as_dict(self) -> dict[str, float]:
        """Plain data, rounded to what the clock can tell."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def read_cost(content: dict[str, Any]) -> Cost:
    """Cost from plain data."""
    return Cost(*(float(content.get(name, 0.0)) for name in ("seconds", "cpu_seconds", "peak_mib")))


class Meter:
    """Measures a ``with`` block. Meanwhile a file says how far it is, so that nothing is lost when it is killed.

    The next meter of the same thing with the same file goes on from there: the cost is that of all attempts together.

    Args:
        file: for the note; removed by the end of the block.
        name: of what is measured.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        #: Cost of all attempts, and of the earlier ones among them.
        self.cost = self.earlier = Cost()
        self._peak = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        from atlaseg.pipeline.errors import AtlasegError
        from atlaseg.pipeline.io.files import read_json

        with suppress(AtlasegError):  # no note, or half a note: nothing to go on from
            note = read_json(self.file)
            if isinstance(note, dict) and note.get("name") == self.name:
                self.earlier = read_cost(note)
        _forget_peak()
        self._begun, self._cpu = time.monotonic(), _cpu_seconds()
        self._note()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watch.join()
        self.cost = self._now()
        if kind is None:
            self.file.unlink(missing_ok=True)

    def _look(self) -> None:
        noted = time.monotonic()
        while not self._ended.wait(LOOK):
            self._peak = max(self._peak, _children_bytes() + _resident_bytes())
            if time.monotonic() - noted > NOTE:
                self._note()
                noted = time.monotonic()

    def _now(self) -> Cost:
        return Cost(
            self.earlier.seconds + time.monotonic() - self._begun,
            self.earlier.cpu_seconds + _cpu_seconds() - self._cpu,
            max(self.earlier.peak_mib, self._peak / 2**20, peak_resident_bytes() / 2**20),
        )

    def _note(self) -> None:
        from atlaseg.pipeline.io.files import write_text

        write_text(self.file, json.dumps({"name": self.name, **self._now().as_dict()}) + "\n")


class Registrations:
    """Tells which registrations were there before something was done, were used for it, and what they had cost.

    Args:
        folder: of finished registrations, or ``None``.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._before = self._last_used()

    def _last_used(self) -> dict[Path, int]:
        # reading one sets its time (atlaseg.atlases.propagation.work_folder)
        files = () if self.folder is None else self.folder.glob("*.json")
        return {file: file.stat().st_mtime_ns for file in files}

    def reused_seconds(self) -> float:
        """Seconds of the registrations that were used and not run."""
        from atlaseg.pipeline.io.files import read_json, taking_apart

        now = self._last_used()
        used = [file for file, time in self._before.items() if now.get(file, time) != time]
        total = 0.0
        for file in used:
            with taking_apart(file, "what a registration took"):
                total += float(read_json(file)["seconds"])
        return total


def _cpu_seconds() -> float:
    """Processor time of this process and all that it has started."""
    import psutil

    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            used = child.cpu_times()
            total += used.user + used.system
    return total


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _children_bytes() -> int:
    import psutil

    total = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += int(child.memory_info().rss)
    return total


def _forget_peak() -> None:
    """Let Linux measure the peak anew from here; elsewhere it stays that of the whole process.

    Source: man 5 proc_pid_clear_refs.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
